"""What all commands share: options, output, errors and exit codes.

Exit codes: 0 done (also "nothing to do"), 2 wrong configuration or input, 1 anything else. Results go
to standard output, everything else to standard error.
"""

from __future__ import annotations

import errno
import getpass
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ptec_udf.errors import PtecError, UserError, says_full_disk
from ptec_udf.log import logger, plain, say_as

SiteOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="YAML file that names the warehouse: that of score, say. Not given: the folder 'warehouse'.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Override one value by its dotted name, as YAML; may be given several times.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object with the result.")]


_OWN = ("jobs", "training", "ptec_udf")
_EXTRAS = "pip install 'ptec-batch-scoring[train]', or connect, report or demo in place of train"


def own_config(command: str) -> Any:
    """Make the option for the file of a command that has one of its own."""
    told = f"YAML file; conf/{command}.yaml explains every value. Not given: defaults, and the rest by --set."
    return typer.Option("--config", "-c", help=told)


def run_command(
    work: Callable[[], dict[str, Any]],
    *,
    as_json: bool,
    show: Callable[[dict[str, Any]], None],
    fault_of: Callable[[dict[str, Any]], str | None] = lambda _: None,
) -> None:
    """Do a command's work, print its result and end the process with its exit code.

    Args:
        work: what the command does.
        as_json: whether the result is printed as one JSON object.
        show: prints it otherwise.
        fault_of: says what is wrong with a result; it is printed all the same, and the exit code is 1. None: nothing.
    """
    # Spark hands times to Python as local ones, whose hours may come twice; in UTC they are also those of SQL.
    os.environ["TZ"] = "UTC"
    time.tzset()
    say_as("text", "")  # a scheduler may run several commands in one process, and each has a configuration of its own
    try:
        result = work()
    except UserError as error:
        for fault in error.errors:
            logger.error(f"{fault}")
        raise SystemExit(error.exit_code) from None
    except PtecError as error:
        logger.error(f"{error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        logger.info("stopped; run the same command again to go on")
        raise SystemExit(1) from None
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (package := _of_others(error)):
            logger.error(f"the Python package {package!r} is not installed; most come with an extra: {_EXTRAS}")
            raise SystemExit(2) from None
        if _is_full_disk(error):
            logger.error(
                "no room is left on a disk, or it is read-only; make room and give the same command again, what "
                "is whole is kept"
            )
            raise SystemExit(1) from None
        # The place is shown and the message is not, since it may quote a company's text.
        logger.info("".join(traceback.format_tb(error.__traceback__)))
        logger.error(f"{_kind_of(error)} at the place above")
        raise SystemExit(1) from None
    _print(result, show, as_json=as_json)
    if message := fault_of(result):
        logger.error(f"{message}")
        raise SystemExit(1)


def _print(result: dict[str, Any], show: Callable[[dict[str, Any]], None], *, as_json: bool) -> None:
    """Print a result; a full disk is told in words, since what the command did stands."""
    try:
        if as_json:
            print(plain(json.dumps(_as_json(result), ensure_ascii=False, default=str)))  # noqa: T201
        else:
            show(result)
        print(end="", flush=True)  # noqa: T201 (there may be no standard output)
    except OSError as error:
        if not _is_full_disk(error):
            raise
        # Else Python tries again at its end, and tells that too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        logger.error("no room is left where the result was to be written; what the command did stands")
        raise SystemExit(1) from None


def _as_json(value: Any) -> Any:
    """Make names text, and null of what is no number: JSON has none of them, and SQL may answer with both."""
    if isinstance(value, dict):
        return {str(name): _as_json(part) for name, part in value.items()}
    if isinstance(value, list):
        return list(map(_as_json, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def account() -> str:
    """Return who runs a command: the name of the account, or its number where it has no name, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # which of them depends on Python's version
        return f"uid {os.getuid()}"


def _of_others(error: ModuleNotFoundError) -> str | None:
    """Return the package that is missing, unless it is one of ours, which would be a defect."""
    package = (error.name or "").partition(".")[0]
    return package if package not in _OWN else None


def _kind_of(error: Exception) -> str:
    """Say what an error is that no command expects, of Spark's also what is known of it."""
    if type(error).__module__.partition(".")[0] not in ("pyspark", "py4j"):
        return f"unexpected {type(error).__name__}"
    from ptec_udf.nightly.reason import reason_of  # only here, since Spark comes with it, which takes time to load

    return f"Spark failed with {reason_of(error)},"


def _is_full_disk(error: BaseException | None) -> bool:
    """Tell whether a full disk is the cause; not every library says so by its kind of error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if says_full_disk(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def show_pairs(result: dict[str, Any]) -> None:
    """Print a result as lines of name and value."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in result.items():
        if value not in (None, {}, []):
            table.add_row(name, Text(_shown(value)))
    console = _console()
    with console.capture() as captured:
        console.print(table)
    # A table fills each line up to its longest: with a long value, that is pages of blanks in a log.
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def show_rows(rows: list[dict[str, Any]], empty: str = "no rows") -> None:
    """Print rows as a table."""
    if not rows:
        _console().print(empty, markup=False)
        return
    table = Table()
    for name in rows[0]:
        table.add_column(Text(plain(name)), overflow="fold")
    for row in rows:
        table.add_row(*[Text(_shown(value)) for value in row.values()])
    _console().print(table)


def _shown(value: Any) -> str:
    """Write a value in words."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{_shown(name)} {_shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return plain(str(value))


def _console() -> Console:
    """Make a console for standard output; in a pipe no line is folded."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=2_000)
