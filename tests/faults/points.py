"""Moments of a night, and processes of it that are killed then."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.site import ENDED, EXPLAINED, MERGED, NOTHING, STAGED, FaultSite

STEPS = (NOTHING, STAGED, EXPLAINED, MERGED, ENDED)

IN_ONE_PROCESS, ON_EXECUTORS = "warehouse.master=local[2,4]", "warehouse.master=local-cluster[2,1,1024]"


@dataclass(frozen=True)
class Process:
    """A process of a night."""

    pid: int
    parent: int
    command: str


@dataclass(frozen=True)
class Point:
    """When to kill, and what.

    Attributes:
        name: says both.
        reached: asks a site whether the moment has come.
        chosen: of the processes of a night those that are killed; all others stay.
        steps: how far the night may have come by then.
        master: where Spark runs.
        ends: whether the night cannot go on by itself. Where it can, workers are held up until they have a task.
        again_by_command: whether it is run again by a command of its own, which opens the catalog that the killed one
            left; else by a driver that is there already.
    """

    name: str
    reached: Callable[[FaultSite], bool]
    chosen: Callable[[list[Process]], list[Process]]
    steps: tuple[str, ...]
    master: str = IN_ONE_PROCESS
    ends: bool = True
    again_by_command: bool = False


def all_of(processes: list[Process]) -> list[Process]:
    """Choose the whole night, as a machine that is switched off does."""
    return processes


def driver_python(processes: list[Process]) -> list[Process]:
    """Choose the command's own process."""
    return processes[:1]


def driver_jvm(processes: list[Process]) -> list[Process]:
    """Choose Spark's driver."""
    return [process for process in processes if "SparkSubmit" in process.command]


def workers(processes: list[Process]) -> list[Process]:
    """Choose all Python workers of a host, since one alone may be idle: a daemon's forks, which have its command."""
    daemons = [process for process in processes if "-m ptec_udf.engine.daemon" in process.command]
    for daemon in daemons:
        if found := [child for child in daemons if child.parent == daemon.pid]:
            return found
    return []


def executor(processes: list[Process]) -> list[Process]:
    """Choose an executor that has a Python worker: its JVM and all that this has started, as a container is killed."""
    found = workers(processes)
    daemons = [process for process in processes if found and process.pid == found[0].parent]
    jvms = [process for process in processes if daemons and process.pid == daemons[0].parent]
    return [*jvms, *daemons, *found]


def slices_staged(n_slices: int) -> Callable[[FaultSite], bool]:
    """Wait for slices in staging."""
    return lambda site: site.commits("score_staging") >= n_slices


def changes_written(site: FaultSite) -> bool:
    """Wait until why companies entered or left their labels is written, after staging and before MERGE."""
    return site.commits("score_changes") > 0


def merging(site: FaultSite) -> bool:
    """Wait until MERGE has written a file; it may be committed when the night dies."""
    return site.has_new_file("scores")


def merged(site: FaultSite) -> bool:
    """Wait until MERGE is committed; the run's row comes after it."""
    return site.commits("scores") > 0


def recorded(site: FaultSite) -> bool:
    """Wait until the run's row is written; staging is cleared after it."""
    return site.commits("runs") > 0


def scoring(site: FaultSite) -> bool:
    """Wait for the first text to be scored: staging gets a file."""
    return site.has_new_file("score_staging")


AT_RANDOM = "all, at random"
_SCORING = (STAGED,)
_AT_WORK = slices_staged(1)  # and others are to come
POINTS = (
    Point("all, first slice staged", slices_staged(1), all_of, (STAGED,), again_by_command=True),
    Point("driver's Python, second slice staged", slices_staged(2), driver_python, (STAGED,)),
    Point("driver's JVM, third slice staged", slices_staged(3), driver_jvm, (STAGED,), again_by_command=True),
    Point("all, between staging and MERGE", changes_written, all_of, (EXPLAINED,)),
    Point("driver's JVM, between staging and MERGE", changes_written, driver_jvm, (EXPLAINED,)),
    Point("all, during MERGE", merging, all_of, (EXPLAINED, MERGED)),
    Point("driver's Python, during MERGE", merging, driver_python, (EXPLAINED, MERGED)),
    Point("all, between MERGE and the run's row", merged, all_of, (MERGED,)),
    Point("driver's JVM, between MERGE and the run's row", merged, driver_jvm, (MERGED,)),
    Point("all, after the run's row", recorded, all_of, (ENDED,), again_by_command=True),
    Point("Python workers, while scoring", _AT_WORK, workers, _SCORING, ends=False),
    Point("Python workers of an executor, while scoring", _AT_WORK, workers, _SCORING, ON_EXECUTORS, ends=False),
    Point("an executor, while scoring", _AT_WORK, executor, _SCORING, ON_EXECUTORS, ends=False),
)


def at_random(draw: random.Random, seconds: float, *, again_by_command: bool) -> Point:
    """Kill the whole night at any time of the ``seconds`` from the first scored text to its end."""
    after = draw.uniform(0.0, seconds)
    begun: list[float] = []

    def reached(site: FaultSite) -> bool:
        if not begun and scoring(site):
            begun.append(time.monotonic())
        return bool(begun) and time.monotonic() - begun[0] >= after

    return Point(AT_RANDOM, reached, all_of, STEPS, again_by_command=again_by_command)


def processes_of(pid: int) -> list[Process]:
    """List a process and all that it has started, itself first."""
    everything = list(_all_processes())
    found = [process for process in everything if process.pid == pid]
    for process in found:
        found += [child for child in everything if child.parent == process.pid]
    return found


def _all_processes() -> Iterator[Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:  # it has ended
            continue
        if status[0] != "Z":
            yield Process(int(folder.name), int(status[1]), command)
