"""Write the reference pages from the code. Run ``python docs/generate.py``.

A test compares the pages with the code. Settings are in conf/ptec.yaml, which ``ptec init --full`` writes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import typer.main

from jobs.cli import app
from ptec_udf import errors
from ptec_udf.warehouse.schemas import SCHEMAS

FOLDER = Path(__file__).parent / "reference"
_COLUMN = re.compile(r"^\s+(\w+)(?: [A-Z]+)? COMMENT '((?:[^']|'')*)'", re.MULTILINE)


def pages() -> dict[str, str]:
    """Return the text of each reference page by file name."""
    return {"commands.md": _page(_commands()), "errors.md": _page(_errors()), "tables.md": _page(_tables())}


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "`ptec COMMAND --help` lists the options. Every command takes `--config`, `--set KEY=VALUE`, `--json` and"
    yield "`--debug`. The settings are in [conf/ptec.yaml](../../conf/ptec.yaml)."
    yield ""
    yield "| command | panel | purpose |"
    yield "|---|---|---|"
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        yield f"| `ptec {name}` | {getattr(command, 'rich_help_panel', '')} | {_first_line(command.help or '')} |"


def _errors() -> Iterator[str]:
    yield "# Error codes"
    yield ""
    yield "Each error line shows a code. It states the problem with its value, the rule, and the remedy."
    yield ""
    yield "| code | class | exit code | raised when |"
    yield "|---|---|---|---|"
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.PtecError)]
    for kind in sorted(classes, key=lambda kind: kind.code):
        line = _first_line(kind.__doc__ or "").removeprefix("Raised when ")
        yield f"| {kind.code} | `{kind.__name__}` | {kind.exit_code} | {line} |"


def _tables() -> Iterator[str]:
    yield "# Tables and views"
    yield ""
    yield "`ptec` is the database of the site. Views and functions come first."
    tables = {name: schema for name, schema in SCHEMAS.items() if not name.endswith("_staging")}
    named = {(field.name, field.metadata["comment"]) for schema in tables.values() for field in schema.fields}
    for file in sorted(files("ptec_udf.warehouse").joinpath("sql").iterdir(), key=lambda file: file.name):
        yield from _view(file.read_text(encoding="utf-8"), named)
    for name, schema in tables.items():
        rows = [(field.name, field.dataType.simpleString(), field.metadata["comment"]) for field in schema.fields]
        yield from ("", f"## Table `{name}`", "", "| column | type | meaning |", "|---|---|---|")
        yield from (f"| `{column}` | {_short(kind)} | {_cell(comment)} |" for column, kind, comment in rows)


def _view(text: str, named: set[tuple[str, str]]) -> Iterator[str]:
    name = re.search(r"(VIEW|FUNCTION) \{database\}\.(\w+)", text)
    assert name is not None
    columns = [(column, _cell(comment)) for column, comment in _COLUMN.findall(text)]
    yield from ("", f"## {name[1].capitalize()} `{name[2]}`", "")
    if own := [(column, comment) for column, comment in columns if (column, comment) not in named]:
        yield from ("| column or parameter | meaning |", "|---|---|")
        yield from (f"| `{column}` | {comment} |" for column, comment in own)
        yield ""
    if others := [f"`{column}`" for column, comment in columns if (column, comment) in named]:
        yield f"As in the tables: {', '.join(others)}."


def _short(kind: str) -> str:
    return kind if len(kind) <= 30 else kind.partition("<")[0]


def _cell(text: str) -> str:
    return text.replace("''", "'").replace("|", "\\|")


def _first_line(text: str) -> str:
    return " ".join(text.strip().partition("\n\n")[0].split())


def _page(lines: Iterator[str]) -> str:
    return "<!-- Written by docs/generate.py from the code. -->\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
