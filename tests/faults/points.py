"""Moments of a night, and processes of it that are killed then."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.site import FaultSite

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
        master: where Spark runs.
        ends: whether the night cannot go on by itself.
        again_by_command: whether it is run again by a command of its own, which opens the catalog that the killed one
            left; else by a driver that is there already.
    """

    name: str
    reached: Callable[[FaultSite], bool]
    chosen: Callable[[list[Process]], list[Process]]
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
    """Choose a Python worker: a daemon's child."""
    daemons = {process.pid for process in processes if "ptec_udf.engine.daemon" in process.command}
    found = [process for process in processes if process.parent in daemons and process.pid not in _parents(processes)]
    return found[:1]


def executors(processes: list[Process]) -> list[Process]:
    """Choose an executor's JVM."""
    return [process for process in processes if "CoarseGrainedExecutorBackend" in process.command][:1]


def _parents(processes: list[Process]) -> set[int]:
    return {process.parent for process in processes}


def slices_staged(n_slices: int) -> Callable[[FaultSite], bool]:
    """Wait for slices in staging; the commit of the table itself comes before."""
    return lambda site: site.commits("score_staging") > n_slices


def changes_written(site: FaultSite) -> bool:
    """Wait until why companies entered their labels is written, after staging and before MERGE."""
    return site.commits("score_changes") > 1


def merging(site: FaultSite) -> bool:
    """Wait until MERGE has written a file that no commit names."""
    return next(site.table("scores").rglob("*.parquet"), None) is not None


def merged(site: FaultSite) -> bool:
    """Wait until MERGE is committed; the run's row comes after it."""
    return site.commits("scores") > 1


def scoring(site: FaultSite) -> bool:
    """Wait for the first text to be scored: staging gets a file."""
    return next(site.table("score_staging").rglob("*.parquet"), None) is not None


POINTS = (
    Point("all, first slice staged", slices_staged(1), all_of, again_by_command=True),
    Point("driver's Python, second slice staged", slices_staged(2), driver_python),
    Point("driver's JVM, third slice staged", slices_staged(3), driver_jvm, again_by_command=True),
    Point("all, between staging and MERGE", changes_written, all_of),
    Point("driver's JVM, between staging and MERGE", changes_written, driver_jvm),
    Point("all, during MERGE", merging, all_of),
    Point("driver's Python, during MERGE", merging, driver_python),
    Point("all, between MERGE and the run's row", merged, all_of),
    Point("driver's JVM, between MERGE and the run's row", merged, driver_jvm),
    Point("a Python worker, while scoring", scoring, workers, ends=False),
    Point("a Python worker of an executor, while scoring", scoring, workers, ON_EXECUTORS, ends=False),
    Point("an executor, while scoring", scoring, executors, ON_EXECUTORS, ends=False),
)


def at_random(draw: random.Random, seconds: float) -> Point:
    """Kill the whole night at any time of the ``seconds`` that one takes, whatever it does then."""
    after = draw.uniform(0.0, seconds)
    begun: list[float] = []

    def reached(_: FaultSite) -> bool:
        begun.append(time.monotonic())
        return begun[-1] - begun[0] >= after

    return Point("all, at random", reached, all_of, again_by_command=True)


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
