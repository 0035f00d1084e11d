"""Write conf/ptec.yaml and the reference pages from the code. Run ``python docs/generate.py``.

A test compares them with the code.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import typer.main
import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from ptec_jobs.cli import app
from ptec_jobs.site import SECTIONS, section_class
from ptec_udf import errors
from ptec_udf.config import ScoreConfig
from ptec_udf.warehouse.schemas import SCHEMAS

FOLDER = Path(__file__).parent / "reference"
SITE_FILE = FOLDER.parents[1] / "conf" / "ptec.yaml"
_VIEW_COLUMN = re.compile(r"^\s+(\w+)(?: [A-Z]+)? COMMENT '((?:[^']|'')*)'", re.MULTILINE)
_WIDTH = 120
_COLUMN = 34
"""Where comments begin."""
_SHARED = ("config", "set", "json", "debug", "help")

_EXAMPLES: dict[str, Any] = {
    "source.table": "crm.companies",
    "source.key": "company_id",
    "extract.template": "Company name: {name}. Description: {description}",
    "extract.labels.column": "industries",
    "extract.out": "extract",
    "train.out": "artifact",
    "search.out": "search",
    "search.recipe": {},
    "search.space": {"optimiser.head_lr": {"low": 0.0005, "high": 0.01, "log": True}},
    "benchmark.out": "benchmark",
    "benchmark.reference": "head",
    "benchmark.methods": {"head": {"method": "head"}, "tfidf": {"method": "tfidf"}},
    "recalibrate.out": "recalibrated",
}
"""Values of settings without a default, or with an uninformative one."""

_INHERITED = {
    "source": "the section source above, unless set here",
    "model": "the section model above, unless set here",
    "extract": "extract.out, unless set here",
}
"""Settings of a command's section that come from elsewhere."""

_HEADER = """\
# Settings of a PTEC site. ptec reads the nearest ptec.yaml from the working directory upwards, or --config FILE.
# Relative paths are relative to this file. --set section.key=value overrides a setting for one command.
# This file shows every setting with its default, or an example where there is none.
"""


def pages() -> dict[str, str]:
    """Return the text of each reference page by file name."""
    return {"commands.md": _page(_commands()), "errors.md": _page(_errors()), "tables.md": _page(_tables())}


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield "`ptec COMMAND --help` lists the options. Every command takes `--json` and `--debug`, and all but"
    yield "`init` and `demo` take `--config` and `--set KEY=VALUE`. The settings are in"
    yield "[conf/ptec.yaml](../../conf/ptec.yaml)."
    yield ""
    yield "| command | panel | purpose |"
    yield "|---|---|---|"
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        yield f"| [`ptec {name}`](#ptec-{name}) | {command.rich_help_panel} | {_first_line(command.help or '')} |"
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        yield from ("", f"## ptec {name}", "")
        arguments = [one.name.upper() for one in command.params if one.param_type_name == "argument"]
        yield f"`{' '.join(['ptec', name, '[OPTIONS]', *arguments])}`"
        if rows := [_option(one) for one in command.params if one.name not in _SHARED]:
            yield from ("", "| option | meaning |", "|---|---|", *rows)


def _option(option: Any) -> str:
    name = ", ".join(option.opts) if option.param_type_name == "option" else option.name.upper()
    return f"| `{name}` | {_cell(_first_line(option.help or ''))} |"


def _errors() -> Iterator[str]:
    yield "# Error codes"
    yield ""
    yield "Each error line shows a code. It states the problem with its value, the rule, and the remedy."
    yield ""
    yield "| code | class | exit code | raised when |"
    yield "|---|---|---|---|"
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.PtecError)]
    for kind in sorted(classes, key=lambda kind: kind.code):
        line = _first_line(kind.__doc__ or "").replace("``", "`")
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
    columns = [(column, _cell(comment)) for column, comment in _VIEW_COLUMN.findall(text)]
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


def site_file() -> str:
    """Return conf/ptec.yaml: each setting with its default and its description."""
    blocks = [list(_setting(name, field, "")) for name, field in ScoreConfig.model_fields.items()]
    for name in SECTIONS:
        kind = section_class(name)
        blocks.append([*_comment(f"{name}:", _summary(kind)), *_settings(kind, name, "  ")])
    return _HEADER + "".join("\n" + "\n".join(lines) + "\n" for lines in blocks)


def _settings(kind: type[BaseModel], dotted: str, indent: str) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        if dotted not in SECTIONS or name not in (*_INHERITED, "warehouse"):
            yield from _setting(f"{dotted}.{name}", field, indent)
        elif name in _INHERITED:
            yield from _comment(f"{indent}# {name}:", _INHERITED[name])


def _setting(dotted: str, field: FieldInfo, indent: str) -> Iterator[str]:
    """Write one setting; a section as its settings, an optional section as null and its settings in comments."""
    name, default = dotted.rpartition(".")[2], field.get_default(call_default_factory=True)
    types = (field.annotation, *get_args(field.annotation))
    section = next((one for one in types if isinstance(one, type) and issubclass(one, BaseModel)), None)
    if section is not None and default is not None and dotted not in _EXAMPLES:
        yield from _comment(f"{indent}{name}:", field.description or _summary(section))
        yield from _settings(section, dotted, indent + "  ")
        return
    value = _EXAMPLES.get(dotted, None if default is PydanticUndefined else default)
    yield from _comment(f"{indent}{name}: {_flow(value)}", field.description or "")
    if section is not None and default is None:
        yield f"{indent}# {name}:"
        yield from _settings(section, dotted, f"{indent}#   ")


def _summary(kind: type[BaseModel]) -> str:
    """Return the first line of a class's documentation, as a comment."""
    line = (kind.__doc__ or "").strip().splitlines()[0].rstrip(".").replace("``", "'")
    return line if line[1:2].isupper() or line.startswith("AdamW") else line[:1].lower() + line[1:]


def _comment(text: str, description: str) -> Iterator[str]:
    """Write a setting with its description to the right of it, or above a long setting."""
    column = max(_COLUMN, len(text) + 2)
    if column > _WIDTH // 2 and description:
        yield from (f"{' ' * (len(text) - len(text.lstrip()))}# {line}" for line in textwrap.wrap(description, 90))
        description = ""
    first, *more = textwrap.wrap(description, _WIDTH - column - 2) or [""]
    yield f"{text:<{column}}# {first}" if first else text
    yield from (f"{'':<{column}}# {line}" for line in more)


def _flow(value: Any) -> str:
    """Write a value as YAML on one line."""
    plain = value.get_secret_value() if isinstance(value, SecretStr) else to_jsonable_python(value, exclude_none=True)
    return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    SITE_FILE.write_text(site_file(), encoding="utf-8")
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
