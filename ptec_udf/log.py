"""Messages and progress of long work, on standard error: text or JSON lines, and a bar on a terminal."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_UPDATES = 1.0
_MIN_WIDTH_WITH_BAR = 120

logger = logging.getLogger("ptec")
"""Messages of this package; nothing else is written to standard error."""


class Step(Protocol):
    """Called with the number of items done since the last call."""

    def __call__(self, done: int, /) -> None:
        """Count items as done."""


class _Formatter(logging.Formatter):
    """Formats a message as text, with the level of warnings and errors, or as one JSON object."""

    def __init__(self, form: str = "text", command: str = "") -> None:
        super().__init__()
        self.form, self.command = form, command

    def format(self, record: logging.LogRecord) -> str:
        """Format one message; control characters are escaped."""
        message, level = record.getMessage(), record.levelname.lower()
        if self.form == "text":
            return escape_control(message if record.levelno < logging.WARNING else f"{level}: {message}")
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": level, "command": self.command, "message": message}
        return escape_control(json.dumps(line, ensure_ascii=False))


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the standard error of the moment, which tests and schedulers replace."""

    @property
    def stream(self) -> TextIO:
        """Standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        pass


_handler = _StderrHandler()
_handler.setFormatter(_Formatter())
logger.addHandler(_handler)
logger.setLevel(logging.INFO)
logger.propagate = False


def configure_log(form: str, command: str) -> None:
    """Choose how this process prints its messages from now on.

    Args:
        form: ``text`` or ``json``.
        command: name of the command, a field of each JSON line.
    """
    _handler.setFormatter(_Formatter(form, command))


def escape_control(text: str) -> str:
    r"""Replace characters that a terminal would obey, except line ends, by JSON escapes such as \u001b."""
    return "".join(one if one.isprintable() or one == "\n" else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex(" ", 2).split()
    return "".join(f"\\u{unit}" for unit in units)


@contextmanager
def progress(name: str, total: int) -> Iterator[Step]:
    """Show how many of ``total`` items are done while the block runs."""
    n_done = 0

    def step(done: int, /) -> None:
        nonlocal n_done
        n_done += done

    def look(seconds: float) -> tuple[float, str]:
        share = n_done / max(total, 1)
        return share, f"{name}: {n_done} of {total}, {seconds_left(share, seconds)}"

    with watched(look):
        yield step


@contextmanager
def watched(look: Callable[[float], tuple[float, str]]) -> Iterator[None]:
    """Show the progress of work in another thread or process while the block waits for it.

    Args:
        look: gets the seconds since the start; returns the share that is done, 0 to 1, and a line about it.
    """
    ended = threading.Event()
    show = _show_bar if sys.stderr.isatty() else _log_lines
    thread = threading.Thread(target=show, args=(look, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show_bar(look: Callable[[float], tuple[float, str]], ended: threading.Event) -> None:
    """Move a bar on a terminal until the work has ended."""
    started, console = time.monotonic(), Console(stderr=True)
    columns = [BarColumn()] if console.width >= _MIN_WIDTH_WITH_BAR else []  # the line says more
    with Progress(*columns, TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        while not ended.wait(_SECONDS_BETWEEN_UPDATES):
            share, line = look(time.monotonic() - started)
            bar.update(task, completed=share, description=line)


def _log_lines(look: Callable[[float], tuple[float, str]], ended: threading.Event) -> None:
    """Log a line from time to time until the work has ended."""
    started = time.monotonic()
    while not ended.wait(_SECONDS_BETWEEN_LINES):
        logger.info(look(time.monotonic() - started)[1])


def seconds_left(share: float, elapsed: float) -> str:
    """Return the expected time of the rest, for a line of progress."""
    return f"about {elapsed * (1 - share) / share:.0f} s left" if share > 0 else "time left unknown"
