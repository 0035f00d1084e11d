"""The shell of ``ptec sql``: statements from a terminal, with history and completion, or from a pipe."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ptec_jobs.cli_data import Engine
from ptec_jobs.command import describe_error
from ptec_jobs.output import print_result
from ptec_jobs.site import Site
from ptec_jobs.sql.answer import Output, has_duckdb, run
from ptec_udf.errors import UserError
from ptec_udf.log import logger
from ptec_udf.warehouse.view_files import FUNCTIONS, VIEWS

HISTORY = Path("~/.ptec_sql_history")
_HELP = "SHOW TABLES; lists tables and views, DESCRIBE name; its columns. A statement ends with ; and exit leaves."
_WORDS = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "ORDER",
    "BY",
    "LIMIT",
    "JOIN",
    "DESCRIBE",
    "SHOW",
    "TABLES",
    "DISTINCT",
    "count",
]


def run_shell(site: Site, engine: Engine, output: Output, *, as_json: bool) -> None:
    """Run statements until the input ends. In a terminal the shell continues after an error, in a pipe it ends."""

    def answer(statement: str) -> None:
        if result := run(site, statement, engine, output):
            print_result(result, as_json=as_json)

    if not sys.stdin.isatty():
        for statement in statements(line.rstrip("\n") for line in sys.stdin):
            answer(statement)
        return
    _complete([*_WORDS, *_names(site)])
    logger.info(_HELP)
    for statement in statements(_typed()):
        try:
            answer(statement)
        except KeyboardInterrupt:
            logger.info("stopped")
        except Exception as error:
            for line in describe_error(error)[0]:
                logger.error(line)


def statements(lines: Iterator[str]) -> Iterator[str]:
    """Yield statements: each ends with a line whose last character is a semicolon, or with the input."""
    begun: list[str] = []
    for line in lines:
        word = line.strip().rstrip(";").lower()
        if not begun and word in ("exit", "quit"):
            return
        if not begun and word == "help":
            logger.info(_HELP)
        elif line.strip() or begun:
            begun.append(line)
        if begun and line.rstrip().endswith(";"):
            yield "\n".join(begun)
            begun.clear()
    if any(line.strip() for line in begun):
        yield "\n".join(begun)


def _typed() -> Iterator[str]:
    """Yield lines from the terminal until its end, or Ctrl-C."""
    is_new = True
    while True:
        try:
            line = input("ptec> " if is_new else "   -> ")
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)  # noqa: T201
            return
        is_new = line.rstrip().endswith(";") or (is_new and not line.strip())
        yield line


def _names(site: Site) -> list[str]:
    """Return the names to complete: all of an embedded warehouse, elsewhere those of our views."""
    if not has_duckdb(site):
        return [*VIEWS, *FUNCTIONS]
    from ptec_jobs.sql.on_duckdb import names_of

    try:
        return names_of(site.warehouse)
    except UserError:  # of a warehouse without tables; a statement says so
        return [*VIEWS, *FUNCTIONS]


def _complete(words: list[str]) -> None:
    """Set up history and completion, where Python has them."""
    try:
        import readline
    except ImportError:  # some systems build Python without it
        return

    def matching(text: str, at: int) -> str | None:
        found = [word for word in words if word.lower().startswith(text.lower())]
        return found[at] if at < len(found) else None

    readline.set_completer(matching)
    readline.set_completer_delims(" \t\n,()=<>.;'")
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")
    history = HISTORY.expanduser()
    with suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(1000)

    def keep() -> None:
        with suppress(OSError):
            readline.write_history_file(history)

    atexit.register(keep)
