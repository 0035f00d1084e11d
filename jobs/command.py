"""What all commands share: options, errors and exit codes.

Exit codes: 0 done, also "nothing to do"; 2 user error; 3 time to retrain; 1 anything else. Results go to standard
output, everything else to standard error.
"""

from __future__ import annotations

import errno
import getpass
import inspect
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

import typer

from jobs.output import print_result, show_pairs
from ptec_udf.errors import PtecError, UserError, says_full_disk
from ptec_udf.log import configure_log, logger

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Site file; default: the nearest ptec.yaml in this folder or one above."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override one setting by its dotted key; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Print stack frames of an error.")]

DONE, FAILED, USER_ERROR, RETRAIN = 0, 1, 2, 3

Result = dict[str, Any]
WorkT = TypeVar("WorkT", bound=Callable[..., Result])

_OWN = ("jobs", "training", "ptec_udf")
_EXTRAS = "pip install 'ptec-batch-scoring[train]', or one of the extras connect, openvino, report, demo"


class Verdict(NamedTuple):
    """Why a result that is printed ends the process with another exit code than 0."""

    message: str
    exit_code: int = FAILED


def command(
    app: typer.Typer,
    panel: str,
    *,
    show: Callable[[Result], None] = show_pairs,
    judge: Callable[[Result], Verdict | None] = lambda _: None,
    has_site: bool = True,
) -> Callable[[WorkT], WorkT]:
    """Make a function a command with the options that all commands share.

    The function gets the ``Site`` as its first argument (unless ``has_site`` is false) and returns its result.

    Args:
        app: where the command is added.
        panel: heading of its group in ``ptec --help``.
        show: prints the result without ``--json``.
        judge: returns why the exit code is not 0 although there is a result.
        has_site: whether the command reads the site file.
    """

    def add(work: WorkT) -> WorkT:
        def run(
            config: Path | None = None,
            set_: list[str] | None = None,
            as_json: bool = False,
            debug: bool = False,
            **own: Any,
        ) -> None:
            from jobs.site import find_site  # pydantic takes a while to load, which --help does not need

            arguments = (lambda: (find_site(config, set_ or []),)) if has_site else tuple
            run_command(lambda: work(*arguments(), **own), as_json=as_json, debug=debug, show=show, judge=judge)

        _describe(run, work, has_site=has_site)
        app.command(rich_help_panel=panel)(run)
        return work

    return add


def _describe(run: Callable[..., None], work: Callable[..., Result], *, has_site: bool) -> None:
    """Set name, help and options of a command: those of its function, then those that all share."""
    hints = get_type_hints(work, localns={"Site": object}, include_extras=True)
    own = list(inspect.signature(work).parameters.values())[int(has_site) :]
    shared: dict[str, tuple[Any, Any]] = {"as_json": (JsonOption, False), "debug": (DebugOption, False)}
    if has_site:
        shared = {"config": (ConfigOption, None), "set_": (SetOption, None)} | shared
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [one.replace(annotation=hints[one.name], kind=keyword) for one in own]
    parameters += [
        inspect.Parameter(name, keyword, default=default, annotation=kind) for name, (kind, default) in shared.items()
    ]
    run.__name__, run.__doc__, run.__module__ = work.__name__, work.__doc__, work.__module__
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]


def run_command(
    work: Callable[[], Result],
    *,
    as_json: bool = False,
    debug: bool = False,
    show: Callable[[Result], None] = show_pairs,
    judge: Callable[[Result], Verdict | None] = lambda _: None,
) -> None:
    """Do a command's work and print its result.

    Raises:
        SystemExit: with the exit code, unless that is 0.
    """
    # Spark hands times to Python as local ones, whose hours may come twice; in UTC they are also those of SQL.
    os.environ["TZ"] = "UTC"
    time.tzset()
    configure_log("text", "")  # a scheduler may run several commands in one process
    try:
        result = work()
        print_result(result, show, as_json=as_json)
    except KeyboardInterrupt:
        logger.info("stopped; run the same command again to continue")
        raise SystemExit(FAILED) from None
    except Exception as error:
        if debug:
            # Frames only: a message may quote a company's text.
            logger.info("".join(traceback.format_tb(error.__traceback__)))
        for line in error_lines(error):
            logger.error(line)
        raise SystemExit(_exit_code(error)) from None
    if verdict := judge(result):
        logger.error(verdict.message)
        raise SystemExit(verdict.exit_code)


def error_lines(error: Exception) -> list[str]:
    """Return one line for each error, with its code; never the words of an error that is not ours."""
    if isinstance(error, PtecError):
        return [f"{error.code} {one}" for one in (error.errors if isinstance(error, UserError) else [str(error)])]
    if package := _missing_package(error):
        return [f"{UserError.code} the Python package {package!r} is not installed; most come with an extra: {_EXTRAS}"]
    if _is_full_disk(error):
        return [f"{PtecError.code} a disk is full or read-only; free some space and run the same command again"]
    what = f"{_kind_of(error)} in {_location_of(error)}"
    return [f"{PtecError.code} {what} (run with --debug for the stack frames)"]


def account() -> str:
    """Return who runs a command: the name of the account, or its number where it has no name, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # which of them depends on Python's version
        return f"uid {os.getuid()}"


def _exit_code(error: Exception) -> int:
    if isinstance(error, PtecError):
        return error.exit_code
    return USER_ERROR if _missing_package(error) else FAILED


def _missing_package(error: Exception) -> str | None:
    """Return the name of a package that is not installed; one of ours would be a defect."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return package if package not in ("", *_OWN) else None


def _kind_of(error: Exception) -> str:
    """Name an unexpected error; of Spark's also its condition."""
    if type(error).__module__.partition(".")[0] not in ("pyspark", "py4j"):
        return f"unexpected {type(error).__name__}"
    from ptec_udf.nightly.reason import reason_of  # loads Spark

    return f"Spark failed with {reason_of(error)},"


def _location_of(error: Exception) -> str:
    """Return file and line of the innermost frame of our code."""
    frames = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).resolve().parents[1]
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(root) and frame.name != "run_command"]
    frame = (ours or frames)[-1]
    path = Path(frame.filename)
    return f"{path.relative_to(root) if path.is_relative_to(root) else path.name}:{frame.lineno}"


def _is_full_disk(error: BaseException | None) -> bool:
    """Tell whether a full disk is the cause; not every library says so by its kind of error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return True
        if says_full_disk(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
