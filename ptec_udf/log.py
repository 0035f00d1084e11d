"""Messages and progress of long work, on standard error: text or JSON lines, and one line in place on a terminal."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_UPDATES = 1.0

logger = logging.getLogger("ptec")  # nothing else is written to standard error


class _Handler(logging.Handler):
    """Prints each message to the current standard error, as text or as a JSON object."""

    form, command = "text", ""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message; nobody may read it any more."""
        line, level = record.getMessage(), record.levelname.lower()
        if self.form == "json":
            at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
            fields = {"at": at, "level": level, "command": self.command, "message": line}
            line = json.dumps(fields, ensure_ascii=False)
        elif record.levelno >= logging.WARNING:
            line = f"{level}: {line}"
        with suppress(OSError, ValueError):  # closed
            print(escape_control(line), file=sys.stderr, flush=True)  # noqa: T201


_handler = _Handler()
logger.addHandler(_handler)
logger.setLevel(logging.INFO)
logger.propagate = False


def configure_log(form: str, command: str) -> None:
    """Print messages from now on as ``text`` or ``json``; the command is a field of each JSON line."""
    _handler.form, _handler.command = form, command


def escape_control(text: str) -> str:
    r"""Replace characters that a terminal would obey, except line ends, by JSON escapes such as \u001b."""
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


@contextmanager
def progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of ``total`` items are done while the block runs; it calls the function with those just done."""
    n_done = 0

    def step(n: int) -> None:
        nonlocal n_done
        n_done += n

    with watched(lambda seconds: f"{name}: {n_done} of {total}, {seconds_left(n_done / max(total, 1), seconds)}"):
        yield step


@contextmanager
def watched(describe: Callable[[float], str]) -> Iterator[None]:
    """Show the progress of the block: ``describe`` gets the seconds since its start and returns a line."""
    ended, started, is_terminal = threading.Event(), time.monotonic(), sys.stderr.isatty()

    def show() -> None:
        with Console(stderr=True).status("") if is_terminal else nullcontext() as status:
            while not ended.wait(_SECONDS_BETWEEN_UPDATES if is_terminal else _SECONDS_BETWEEN_LINES):
                line = describe(time.monotonic() - started)
                if status is None:
                    logger.info(line)
                else:
                    status.update(escape(line))

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def seconds_left(share: float, elapsed: float) -> str:
    """Return the expected time of the rest, for a line of progress."""
    return f"about {elapsed * (1 - share) / share:.0f} s left" if share > 0 else "time left unknown"
