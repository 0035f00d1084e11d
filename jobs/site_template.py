"""Generate ``ptec.yaml`` from the configuration classes: each setting with its default and its description."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from jobs.site import SECTIONS, section_class
from ptec_udf.config import ScoreConfig

_WIDTH = 120
_COLUMN = 34
"""Where comments begin."""

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

_SMALL = (
    *("warehouse.folder", "warehouse.database", "source.table", "source.key", "source.columns", "model.alias"),
    *("engine.dtype", "run.max_error_fraction", "run.max_removed_fraction", "notice.webhook", "extract.template"),
    *("extract.labels.column", "extract.split.column", "extract.out", "train.backbone", "train.out"),
    "housekeeping.keep_days",
)
"""Settings that most sites change."""

_HEADER = """\
# Settings of a PTEC site. ptec reads the nearest ptec.yaml from the working directory upwards, or --config FILE.
# Relative paths are relative to this file. --set section.key=value overrides a setting for one command.
"""
_SMALL_HEADER = "# All settings with their defaults: ptec init --full --out reference.yaml\n"
_FULL_HEADER = "# This file shows every setting with its default, or an example where there is none.\n"


def site_file(*, full: bool) -> str:
    """Return a site file with all settings, or with the ones that most sites change."""
    only = None if full else _SMALL
    blocks = [list(_setting(name, field, "", only)) for name, field in ScoreConfig.model_fields.items()]
    for name in SECTIONS:
        lines = list(_settings(section_class(name), name, "  ", only))
        blocks.append([*_comment(f"{name}:", _summary(section_class(name))), *lines] if lines else [])
    header = _HEADER + (_FULL_HEADER if full else _SMALL_HEADER)
    return header + "".join("\n" + "\n".join(lines) + "\n" for lines in blocks if lines)


def _settings(kind: type[BaseModel], dotted: str, indent: str, only: Sequence[str] | None) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        if dotted not in SECTIONS or name not in (*_INHERITED, "warehouse"):
            yield from _setting(f"{dotted}.{name}", field, indent, only)
        elif name in _INHERITED and only is None:
            yield from _comment(f"{indent}# {name}:", _INHERITED[name])


def _setting(dotted: str, field: FieldInfo, indent: str, only: Sequence[str] | None) -> Iterator[str]:
    """Write one setting; a section as its settings, an optional section as null and its settings in comments."""
    if only is not None and not any(
        f"{one}.".startswith(f"{dotted}.") or f"{dotted}.".startswith(f"{one}.") for one in only
    ):
        return
    name, default = dotted.rpartition(".")[2], field.get_default(call_default_factory=True)
    types = (field.annotation, *get_args(field.annotation))
    section = next((one for one in types if isinstance(one, type) and issubclass(one, BaseModel)), None)
    if section is not None and default is not None and dotted not in _EXAMPLES:
        yield from _comment(f"{indent}{name}:", field.description or _summary(section))
        yield from _settings(section, dotted, indent + "  ", only)
        return
    value = _EXAMPLES.get(dotted, None if default is PydanticUndefined else default)
    yield from _comment(f"{indent}{name}: {_flow(value)}", field.description or "")
    if section is not None and default is None:
        yield f"{indent}# {name}:"
        yield from _settings(section, dotted, f"{indent}#   ", only)


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
