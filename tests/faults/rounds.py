"""One round: a night is begun, something of it is killed at a point, and it is run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ptec_udf.log import logger
from ptec_udf.nightly.runs import DONE, NOTHING
from tests.e2e.processes import TIMEOUT_S, command_of, environment
from tests.faults.driver import Driver
from tests.faults.driver_process import FAILED
from tests.faults.points import Point, Process, driver_python, processes_of, scoring, workers
from tests.faults.site import FaultSite, score

ENDED_WELL = (DONE, NOTHING)
_UNTIL_GIVEN_S = 5.0  # longer than a slice's scoring and its commit


@dataclass(frozen=True)
class Undisturbed:
    """A night that nothing is killed of.

    Attributes:
        tables: what it leaves.
        reused: companies whose texts had a score before it.
        n_staged: rows that it wrote to staging.
        seconds: from the first scored text to its end.
    """

    tables: dict[str, Any]
    reused: int
    n_staged: int
    seconds: float

    @classmethod
    def of(cls, site: FaultSite, master: str) -> Undisturbed:
        """Run it."""
        site.restore()
        night, begun = _start(site, master, subprocess.PIPE), time.monotonic()
        while night.poll() is None and not scoring(site):
            begun = time.monotonic()
            time.sleep(0.02)
        printed, _ = night.communicate(timeout=TIMEOUT_S)
        assert night.returncode == 0, "the undisturbed night failed"
        seconds = time.monotonic() - begun
        return cls(site.tables(), json.loads(printed)["reused"], site.n_staged(), seconds)


@dataclass(frozen=True)
class Round:
    """What a round came to.

    Attributes:
        point: its name.
        step: how far the night had come when it was killed.
        killed: number of processes that were killed at work; 0: the night, or what they did for it, had ended before.
        survived: whether the night went on and ended well.
        staged: number of texts that were in staging when the rerun began.
        rescored: whether the rerun scored texts of these again, or texts were staged twice.
        outcome: of the rerun, as its run says, or that it failed, was refused, or did not end.
        equal: whether the tables are those of an undisturbed night.
    """

    point: str
    step: str
    killed: int
    survived: bool
    staged: int
    rescored: bool
    outcome: str
    equal: bool

    @property
    def ended_well(self) -> bool:
        """Whether the rerun was neither refused nor failed."""
        return self.outcome in ENDED_WELL

    @property
    def is_right(self) -> bool:
        """Whether the rerun ended well, and nothing was lost, doubled, or done twice."""
        return self.ended_well and self.equal and not self.rescored

    @property
    def passed(self) -> bool:
        """Whether it is right after something was killed."""
        return self.killed > 0 and self.is_right


def first_hit(site: FaultSite, driver: Driver, points: Sequence[Point], undisturbed: Undisturbed) -> Round:
    """Run rounds until one has killed something at work, or has gone wrong; of points with one master."""
    for point in points:
        found = run_round(site, driver, point, undisturbed)
        if found.killed or not found.is_right:
            break
        logger.info(f"{point.name}: nothing was at work any more when it was killed")
    return found


def run_round(site: FaultSite, driver: Driver, point: Point, undisturbed: Undisturbed) -> Round:
    """Restore the site, kill a command at the point, score again, compare with the tables of an undisturbed night."""
    site.restore()
    night = _start(site, point.master)
    n_killed = kill_at(night, site, point)
    step = site.how_far()
    survived = night.wait(TIMEOUT_S) == 0
    if not point.ends and site.n_failed_tasks() == 0:
        n_killed = 0  # by Spark's own account no task was lost
    staged = 0 if survived else site.staged()
    is_merged = site.commits("scores") > 0
    # Beside what is left of the killed night, which may still be writing.
    result = _rerun(site, driver, point)
    _end(night)
    scored = result.get("rows_per_second") is not None
    # Each text in staging is one that the undisturbed night scored, for a company that the rerun counts as reused.
    rescored = scored and (is_merged or result["reused"] - undisturbed.reused < staged)
    # A JVM that outlives its driver may stage a slice that the rerun has begun to score.
    rescored |= point.chosen is not driver_python and site.n_staged() > undisturbed.n_staged
    equal = site.tables() == undisturbed.tables
    return Round(point.name, step, n_killed, survived, staged, rescored, result["outcome"], equal)


def _rerun(site: FaultSite, driver: Driver, point: Point) -> dict[str, Any]:
    """Score again; a rerun that does not end well is an outcome to be recorded, and says why."""
    try:
        result = site.night(point.master) if point.again_by_command else driver.night()
    except (AssertionError, subprocess.TimeoutExpired) as error:
        result = {"outcome": FAILED, "error": str(error)[-2000:]}
    if result["outcome"] not in ENDED_WELL:
        logger.info(f"{point.name}: the rerun {result['outcome']}: {result.get('error')}")
    return result


def _start(site: FaultSite, master: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command_of(score(master)),
        cwd=site.folder,
        env=environment(),
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_at(night: subprocess.Popen[bytes], site: FaultSite, point: Point) -> int:
    """Wait for the moment and kill; return the number of processes that were there to be killed."""
    end = time.monotonic() + TIMEOUT_S
    n_killed = 0
    while night.poll() is None and n_killed == 0:  # all that were chosen may have ended in between
        assert time.monotonic() < end, f"{point.name}: the moment to kill did not come"
        if point.reached(site):
            found = processes_of(night.pid)
            if not point.ends:
                _hold_up(workers(found))
            n_killed = sum(_send(signal.SIGKILL, process) for process in point.chosen(found))
        time.sleep(0.01)
    return n_killed


def _hold_up(processes: list[Process]) -> None:
    """Stop Python workers until they have been given a task, which their death then ends."""
    for process in processes:
        _send(signal.SIGSTOP, process)
    time.sleep(_UNTIL_GIVEN_S)


def _send(number: signal.Signals, process: Process) -> bool:
    """Send a signal to a process; say whether it was there."""
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _end(night: subprocess.Popen[bytes]) -> None:
    """Kill what a night has left running, so that it is not in the way of the next round."""
    with suppress(ProcessLookupError):
        os.killpg(night.pid, signal.SIGKILL)
    time.sleep(1)  # locks go with it
