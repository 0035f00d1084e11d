"""Commands in processes of their own, as a scheduler starts and kills them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake

TIMEOUT_S = 1200
ROOT = Path(__file__).resolve().parents[1]


def ptec(*arguments: str, cwd: Path, python_path: str = str(ROOT)) -> subprocess.CompletedProcess[str]:
    """Run the command line and wait for its end."""
    mine = environment() | {"PYTHONPATH": python_path}
    return subprocess.run(command_of(arguments), cwd=cwd, env=mine, capture_output=True, text=True, timeout=TIMEOUT_S)


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON that a command printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kill_when(arguments: tuple[str, ...], seen: Callable[[], bool], cwd: Path) -> None:
    """Start the command line and kill it, and all that it started, once ``seen`` says so."""
    process = subprocess.Popen(
        command_of(arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + TIMEOUT_S
    while not seen():
        assert process.poll() is None, "the command ended before it could be killed"
        assert time.monotonic() < end, "the moment to kill did not come"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2)  # the JVM's locks go with it


def n_commits(table: Path) -> int:
    """Number of commits of a Delta table, as its folder shows it while others write."""
    return len(list((table / "_delta_log").glob("*.json")))


def table_rows(table: Path, leave_out: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of a Delta table, read without Spark, sorted; some columns left out."""
    rows = deltalake.DeltaTable(table).to_pyarrow_table().to_pylist()
    kept = [{name: value for name, value in row.items() if name not in leave_out} for row in rows]
    return sorted(kept, key=lambda row: json.dumps(row, sort_keys=True, default=str))


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for_port(port: int, server: subprocess.Popen[bytes], most_s: float = 120) -> None:
    """Wait until a process listens on a port."""
    end = time.monotonic() + most_s
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError(f"the server did not answer, its exit code: {server.poll()}")


def command_of(arguments: tuple[str, ...]) -> list[str]:
    """Return the command line of ``ptec``."""
    return [sys.executable, "-c", "from ptec_jobs.cli import main; main()", *arguments]


def environment() -> dict[str, str]:
    """Return the environment of commands: this checkout stands first on Python's path.

    A command ends before Java's second compiler has earned what it costs.
    """
    java = f"{os.environ.get('JDK_JAVA_OPTIONS', '')} -XX:TieredStopAtLevel=1".strip()
    return {**os.environ, "PYTHONPATH": str(ROOT), "JDK_JAVA_OPTIONS": java}
