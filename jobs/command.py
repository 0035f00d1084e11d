"""What all commands share: options, errors and exit codes.

Exit codes: 0 done, also "nothing to do"; 2 user error; 3 time to retrain; 1 anything else. Results go to standard
output, everything else to standard error.
"""

from __future__ import annotations

import getpass
import inspect
import os
import re
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ptec_jobs.output import print_result
from ptec_udf.errors import PtecError, UserError, location_of, says_full_disk
from ptec_udf.log import configure_log, logger

FAILED, RETRAIN = 1, 3

Result = dict[str, Any]
WorkT = TypeVar("WorkT", bound=Callable[..., Result])
Judge = Callable[[Result], tuple[str, int] | None]
"""Returns message and exit code where a result needs another exit code than 0."""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

_EXTRAS = "pip install 'ptec-batch-scoring[train]', or one of the extras sql, connect, openvino, report, demo"


def _shared_options(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Site file; default: the nearest ptec.yaml in this folder or one above."),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override one setting by its dotted key; repeatable."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print stack frames of an error.")] = False,
) -> None: ...


def command(panel: str, *, judge: Judge = lambda _: None, needs_file: bool = True) -> Callable[[WorkT], WorkT]:
    """Make a function that returns a result a command with the shared options, in a panel of ``ptec --help``.

    A function whose first parameter is ``site`` gets the ``Site`` of ``--config`` and ``--set``; the site file may be
    missing unless ``needs_file``.
    """

    def add(work: WorkT) -> WorkT:
        own = _parameters(work)
        has_site = bool(own) and own[0].name == "site"

        def run(json: bool, debug: bool, config: Path | None = None, set: list[str] | None = None, **rest: Any) -> None:
            def call() -> Result:
                if not has_site:
                    return work(**rest)
                from ptec_jobs.site import find_site  # pydantic takes a while to load, which --help does not need

                return work(find_site(config, set or [], needs_file=needs_file), **rest)

            run_command(call, as_json=json, debug=debug, judge=judge)

        shared = _parameters(_shared_options)[0 if has_site else 2 :]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in [*own[has_site:], *shared]]
        run.__name__, run.__doc__ = work.__name__, work.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        app.command(rich_help_panel=panel)(run)
        return work

    return add


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    signature = inspect.signature(function, eval_str=True, locals={"Site": object})
    return list(signature.parameters.values())


def run_command(
    work: Callable[[], Result], *, as_json: bool = False, debug: bool = False, judge: Judge = lambda _: None
) -> None:
    """Do a command's work and print its result; raise SystemExit with the exit code, unless that is 0."""
    # Spark returns times in the local zone, whose hours may repeat; in UTC they equal the times of SQL.
    os.environ["TZ"] = "UTC"
    time.tzset()
    configure_log("text", "")  # a scheduler may run several commands in one process
    try:
        result = work()
        if result:  # else the command has printed all
            print_result(result, as_json=as_json)
    except KeyboardInterrupt:
        logger.info("stopped; run the same command again to continue")
        raise SystemExit(FAILED) from None
    except Exception as error:
        if debug:
            # Frames only: a message may quote a company's text.
            logger.info("".join(traceback.format_tb(error.__traceback__)))
        lines, exit_code = describe_error(error)
        for line in lines:
            logger.error(line)
        raise SystemExit(exit_code) from None
    if verdict := judge(result):
        logger.error(verdict[0])
        raise SystemExit(verdict[1])


def describe_error(error: Exception) -> tuple[list[str], int]:
    """Return a line for each error, with its code, and the exit code; without messages of other libraries."""
    if isinstance(error, PtecError):
        messages = error.errors if isinstance(error, UserError) else [str(error)]
        return [f"{error.code} {message}" for message in messages], error.exit_code
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package not in ("", "ptec_jobs", "ptec_training", "ptec_udf"):
        line = f"{UserError.code} the Python package {package!r} is not installed; most come with an extra: {_EXTRAS}"
        return [line], UserError.exit_code
    if _is_full_disk(error):
        return [f"{PtecError.code} a disk is full; free some space and run the same command again"], FAILED
    what = f"unexpected {type(error).__name__}"
    if type(error).__module__.partition(".")[0] in ("pyspark", "py4j"):
        from ptec_udf.nightly.reason import reason_of  # loads Spark

        what = f"Spark failed with {reason_of(error)},"
    return [f"{PtecError.code} {what} in {location_of(error)} (run with --debug for the stack frames)"], FAILED


def is_model_id(name: str) -> bool:
    """Return whether a name is a model_id or its beginning, and not an alias."""
    return bool(re.fullmatch(r"[0-9a-f]{6,64}", name))


def account() -> str:
    """Return who runs a command: the name of the account, or its number where it has no name, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # which of them depends on Python's version
        return f"uid {os.getuid()}"


def _is_full_disk(error: BaseException | None) -> bool:
    """Return whether a full disk is the cause; some libraries report it only in a message."""
    return error is not None and (says_full_disk(str(error)) or _is_full_disk(error.__cause__ or error.__context__))
