"""Results on standard output: one JSON object, or pairs of name and value with a table for each list of rows."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from ptec_udf.log import escape_control

_MAX_SHOWN = 20


def print_result(result: dict[str, Any], *, as_json: bool) -> None:
    """Print a result; raise OSError when standard output cannot be written."""
    try:
        if as_json:
            from pydantic_core import to_json

            found = to_json(result, fallback=str, bytes_mode="base64", inf_nan_mode="null")
            print(escape_control(found.decode()))  # noqa: T201
        else:
            show(result)
        print(end="", flush=True)  # noqa: T201
    except OSError:
        # Python would try again when it ends, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def print_now(text: str) -> None:
    """Print a part of a long result when it is known."""
    print(escape_control(text), flush=True)  # noqa: T201


def as_cell(value: Any) -> Any:
    """Return a value for a cell of a CSV file or a sheet: a list or mapping as JSON."""
    if not isinstance(value, list | dict):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def show(result: dict[str, Any]) -> None:
    """Print values as lines of name and value, then each list or mapping of rows as a table."""
    tables = {name: rows for name, value in result.items() if (rows := _rows_of(value))}
    pairs = {name: value for name, value in result.items() if name not in tables and value not in (None, {})}
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        print(f"{name:<{width}}  {_text(value)}")  # noqa: T201
    for name, rows in tables.items():
        if len(result) > 1:
            print(f"\n{name}")  # noqa: T201
        _show_rows(rows)


def _rows_of(value: Any) -> list[dict[str, Any]]:
    """Return a value as rows of a table: a list of mappings, or a mapping of mappings."""
    if isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
        return [{"": name} | row for name, row in value.items()]
    return value if isinstance(value, list) and all(isinstance(row, dict) for row in value) else []


def _show_rows(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table()
    for name in names:
        table.add_column(Text(escape_control(name)), overflow="fold")
    for row in rows:
        table.add_row(*[Text(_text(row.get(name, ""))) for name in names])
    # In a pipe no line is folded.
    Console(highlight=False, width=None if sys.stdout.isatty() else 2_000).print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{_text(name)} {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        more = [f"{len(value) - _MAX_SHOWN} more (see --json)"] * (len(value) > _MAX_SHOWN)
        return ", ".join([*map(_text, value[:_MAX_SHOWN]), *more]) or "none"
    return "" if value is None else escape_control(str(value))
