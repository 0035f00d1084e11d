"""One round: a night is begun, something of it is killed at a point, and it is run again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.e2e.processes import TIMEOUT_S, command_of, environment
from tests.faults.driver import Driver
from tests.faults.driver_process import FAILED, REFUSED
from tests.faults.points import Point, Process, processes_of
from tests.faults.site import FaultSite, score


@dataclass(frozen=True)
class Round:
    """What a round came to.

    Attributes:
        point: its name.
        killed: number of processes that were killed; 0: the night had ended before.
        survived: whether the night went on and ended well.
        staged: number of texts that were in staging when the rerun began.
        rescored: whether the rerun scored texts of these again.
        equal: whether the tables are those of an undisturbed night.
    """

    point: str
    killed: int
    survived: bool
    staged: int
    rescored: bool
    equal: bool

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, doubled, or done twice."""
        return self.equal and not self.rescored


def run_round(site: FaultSite, driver: Driver, point: Point, undisturbed: dict[str, Any]) -> Round:
    """Restore the site, kill a command at the point, score again, compare with the tables of an undisturbed night."""
    site.restore()
    night = _start(site, point)
    n_killed = _kill_at(night, site, point)
    survived = night.wait(TIMEOUT_S) == 0
    staged = 0 if survived else site.staged()
    # Beside what is left of the killed night, which may still be writing.
    result = site.night(point.master) if point.again_by_command else driver.night()
    _end(night)
    assert result["outcome"] not in (REFUSED, FAILED), result
    scored = result["outcome"] == "done" and result["rows_per_second"] is not None
    rescored = scored and result["reused"] < staged
    return Round(point.name, n_killed, survived, staged, rescored, site.tables() == undisturbed)


def _start(site: FaultSite, point: Point) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command_of(score(point.master)),
        cwd=site.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill_at(night: subprocess.Popen[bytes], site: FaultSite, point: Point) -> int:
    """Wait for the moment and kill; return the number of processes."""
    end = time.monotonic() + TIMEOUT_S
    victims: list[Process] = []
    while night.poll() is None and not victims:
        assert time.monotonic() < end, f"{point.name}: the moment to kill did not come"
        if point.reached(site):
            victims = point.chosen(processes_of(night.pid))
        time.sleep(0.005)
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
    return len(victims)


def _end(night: subprocess.Popen[bytes]) -> None:
    """Kill what a night has left running, so that it is not in the way of the next round."""
    with suppress(ProcessLookupError):
        os.killpg(night.pid, signal.SIGKILL)
    time.sleep(1)  # locks go with it
