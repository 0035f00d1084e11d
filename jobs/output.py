"""Results on standard output: as one JSON object, as pairs of name and value, or as a table."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ptec_udf.log import escape_control

if TYPE_CHECKING:
    from rich.console import Console


def print_result(result: dict[str, Any], show: Callable[[dict[str, Any]], None], *, as_json: bool) -> None:
    """Print a result.

    Raises:
        OSError: when standard output cannot be written.
    """
    try:
        if as_json:
            print(escape_control(json.dumps(_as_json(result), ensure_ascii=False, default=str)))  # noqa: T201
        else:
            show(result)
        print(end="", flush=True)  # noqa: T201 (there may be no standard output)
    except OSError:
        # Python would try again when it ends, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def show_pairs(result: dict[str, Any]) -> None:
    """Print a result as lines of name and value."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in result.items():
        if value not in (None, {}, []):
            table.add_row(name, Text(_shown(value)))
    console = _console()
    with console.capture() as captured:
        console.print(table)
    # A table pads each line to its longest: with a long value, that is pages of blanks in a log.
    for line in captured.get().splitlines():
        print(line.rstrip())  # noqa: T201


def show_rows(rows: list[dict[str, Any]], empty: str = "no rows") -> None:
    """Print rows as a table."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        _console().print(empty, markup=False)
        return
    table = Table()
    for name in rows[0]:
        table.add_column(Text(escape_control(name)), overflow="fold")
    for row in rows:
        table.add_row(*[Text(_shown(value)) for value in row.values()])
    _console().print(table)


def _as_json(value: Any) -> Any:
    """Make names text, and NaN and infinity null: JSON has neither, and SQL may return both."""
    if isinstance(value, dict):
        return {str(name): _as_json(part) for name, part in value.items()}
    if isinstance(value, list):
        return list(map(_as_json, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: Any) -> str:
    """Write a value in words."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{_shown(name)} {_shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return escape_control(str(value))


def _console() -> Console:
    """Make a console for standard output; in a pipe no line is folded."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=2_000)
