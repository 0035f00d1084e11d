"""Moments of a run that show on disk, and processes of it that are killed then."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.site import FaultSite
from tests.processes import TIMEOUT_S, command_of, environment


@dataclass(frozen=True)
class Process:
    """A process of a run."""

    pid: int
    parent: int
    command: str


Target = Callable[[list[Process]], list[Process]]


def everything(processes: list[Process]) -> list[Process]:
    """Choose the whole run, as a machine that is switched off."""
    return processes


def driver_python(processes: list[Process]) -> list[Process]:
    """Choose the command's own process."""
    return processes[:1]


def driver_jvm(processes: list[Process]) -> list[Process]:
    """Choose Spark's driver."""
    return [process for process in processes if "SparkSubmit" in process.command]


def workers(processes: list[Process]) -> list[Process]:
    """Choose the Python workers: children of Spark's Python daemon, with its command."""
    daemons = [process for process in processes if "-m ptec_udf.engine.daemon" in process.command]
    pids = {process.pid for process in daemons}
    return [process for process in daemons if process.parent in pids]


def executor(processes: list[Process]) -> list[Process]:
    """Choose an executor's JVM; what it has started ends with it."""
    return [process for process in processes if "CoarseGrainedExecutorBackend" in process.command][:1]


STAGES: dict[str, Callable[[FaultSite], bool]] = {
    "started": lambda site: site.commits("runs") > 0,
    "scoring": lambda site: site.has_new_file("score_staging"),
    "first commit staged": lambda site: site.commits("score_staging") > 0,
    "second commit staged": lambda site: site.commits("score_staging") > 1,
    "merging": lambda site: site.has_new_file("scores"),
    "merged": lambda site: site.commits("scores") > 0,
    "changes written": lambda site: site.commits("score_changes") > 0,
    "recorded": lambda site: site.commits("runs") > 1,
}
"""What is on disk when a run has come so far; a run that ends earlier is not killed."""


def start(site: FaultSite, *overrides: str) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own."""
    command = command_of(site.command(*overrides))
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command, cwd=site.folder, env=environment(), stdout=quiet, stderr=quiet, start_new_session=True
    )


def kill_when(site: FaultSite, seen: Callable[[], bool], target: Target, *overrides: str) -> int:
    """Start a run, kill a part of it once ``seen`` returns true, and wait for its end; return the number killed."""
    run, end, n_killed = start(site, *overrides), time.monotonic() + TIMEOUT_S, 0
    try:
        while run.poll() is None and not n_killed:
            assert time.monotonic() < end, "the moment to kill did not come"
            if seen():
                n_killed = sum(_kill(process) for process in target(processes_of(run.pid)))
            time.sleep(0.005)
        run.wait(TIMEOUT_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    time.sleep(1)  # the locks of its JVM end with it
    return n_killed


def processes_of(pid: int) -> list[Process]:
    """List a process and all that it has started, itself first."""
    running = list(_running())
    found = [process for process in running if process.pid == pid]
    for process in found:
        found += [child for child in running if child.parent == process.pid]
    return found


def _kill(process: Process) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
        return True
    return False


def _running() -> Iterator[Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:  # it has ended
            continue
        if status[0] != "Z":
            yield Process(int(folder.name), int(status[1]), command)
