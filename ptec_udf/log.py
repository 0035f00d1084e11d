"""Progress of long work, on standard error: a moving bar on a terminal, plain lines in a log."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_LOOKS = 1.0
_LEAST_WIDTH_OF_A_BAR = 120


class Step(Protocol):
    """Called with the number of items done since the last call."""

    def __call__(self, done: int, /) -> None:
        """Count items as done."""


logger = logging.getLogger("ptec")
"""Messages of this package; nothing else is written to standard error."""


class _StderrHandler(logging.Handler):
    """Writes each message as one line to standard error, as text or JSON."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        text = text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"
        line = _as_json(text) if _FORM["log"] == "json" else plain(text)
        print(line, file=sys.stderr, flush=True)  # noqa: T201


logger.addHandler(_StderrHandler())
logger.setLevel(logging.INFO)
logger.propagate = False


def plain(text: str) -> str:
    """Write what a terminal would obey in place of showing it, but for the end of a line, as its number.

    It is written as JSON would write it, so that JSON means the same afterwards.
    """
    return "".join(one if one.isprintable() or one == "\n" else _escaped(one) for one in text)


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass").hex(" ", 2).split()
    return "".join(f"\\u{unit}" for unit in units)


def say_as(log: str, command: str) -> None:
    """Choose how this process prints its lines from now on: ``text`` or ``json``; the latter names the command."""
    _FORM.update(log=log, command=command)


_FORM = {"log": "text", "command": ""}


def _as_json(text: str) -> str:
    level, _, rest = text.partition(": ")
    if level not in ("warning", "error"):
        level, rest = "info", text
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"at": at, "level": level, "command": _FORM["command"], "message": rest}
    return plain(json.dumps(line, ensure_ascii=False))


@contextmanager
def progress(what: str, total: int) -> Iterator[Step]:
    """Show how much of ``total`` items is done while the block runs."""
    if sys.stderr.isatty():
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.advance(task, done)
    else:
        yield _Lines(what, total)


class _Lines:
    """Prints a line from time to time."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self.started = self.last = time.monotonic()

    def __call__(self, done: int, /) -> None:
        self.done += done
        now = time.monotonic()
        if now - self.last >= _SECONDS_BETWEEN_LINES and self.done < self.total:
            self.last = now
            left = seconds_left(self.done / self.total, now - self.started)
            logger.info(f"{self.what}: {self.done} of {self.total}, {left}")


@contextmanager
def watched(look: Callable[[float], tuple[float, str]]) -> Iterator[None]:
    """Show how far work is that others do, while the block waits for it.

    Args:
        look: is told the seconds since the begin, and says the share that is done, 0 to 1, and a line about it.
    """
    ended = threading.Event()
    show = _bar if sys.stderr.isatty() else _lines
    thread = threading.Thread(target=show, args=(look, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _bar(look: Callable[[float], tuple[float, str]], ended: threading.Event) -> None:
    """Move a bar on a terminal until the work has ended."""
    started, console = time.monotonic(), Console(stderr=True)
    columns = [BarColumn()] if console.width >= _LEAST_WIDTH_OF_A_BAR else []  # the line says more
    with Progress(*columns, TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            share, line = look(time.monotonic() - started)
            bar.update(task, completed=share, description=line)


def _lines(look: Callable[[float], tuple[float, str]], ended: threading.Event) -> None:
    """Print a line from time to time until the work has ended."""
    started = time.monotonic()
    while not ended.wait(_SECONDS_BETWEEN_LINES):
        logger.info(look(time.monotonic() - started)[1])


def seconds_left(share: float, elapsed: float) -> str:
    """Say how long the rest takes, for a line of progress."""
    return f"about {elapsed * (1 - share) / share:.0f} s left" if share > 0 else "time left not known yet"
