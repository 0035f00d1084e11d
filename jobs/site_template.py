"""Generate ``ptec.yaml`` from the configuration classes: each setting with its default and its description."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from jobs.site import INHERITED, SECTIONS, section_class
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
"""Values shown for settings that have no default, or whose default says little."""

_DESCRIPTIONS = {"search.recipe": "settings that all trials share, as in the section train"}

_SMALL = (
    *("warehouse.folder", "warehouse.database", "source.table", "source.key", "source.columns", "model.alias"),
    *("engine.dtype", "run.max_error_fraction", "run.max_removed_fraction", "notice.webhook", "extract.template"),
    *("extract.labels.column", "extract.split.column", "extract.out", "train.backbone", "train.out"),
    "housekeeping.keep_days",
)
"""Settings of the file that ``ptec init`` writes: those that most sites change."""

_HEADER = """\
# Settings of a PTEC site. ptec reads the nearest ptec.yaml from the working directory upwards, or --config FILE.
# Relative paths are relative to this file. --set section.key=value overrides a setting for one command.
"""
_SMALL_HEADER = _HEADER + "# All settings with their defaults: ptec init --full --out reference.yaml\n"
_FULL_HEADER = _HEADER + "# This file shows every setting with its default, or an example where there is none.\n"


def small_file() -> str:
    """Return a site file with the settings that most sites change."""
    return _SMALL_HEADER + "\n".join(_lines(only=_SMALL)) + "\n"


def full_file() -> str:
    """Return a site file with all settings; those that a section takes over from another one are left out."""
    return _FULL_HEADER + "\n".join(_lines(only=None)) + "\n"


def _lines(only: Sequence[str] | None) -> Iterator[str]:
    for name, field in ScoreConfig.model_fields.items():
        if _is_wanted(name, only):
            yield ""
            yield from _setting(name, field, "", only)
    for name in SECTIONS:
        if _is_wanted(name, only):
            kind = section_class(name)
            yield ""
            yield from _comment(f"{name}:", _summary(kind))
            yield from _section(kind, name, "  ", only, hidden=(*INHERITED, "extract"))


def _is_wanted(dotted: str, only: Sequence[str] | None) -> bool:
    """Whether a setting, or something in it, is one of those to show."""
    return only is None or any(f"{one}.".startswith(f"{dotted}.") or f"{dotted}.".startswith(f"{one}.") for one in only)


def _section(
    kind: type[BaseModel], dotted: str, indent: str, only: Sequence[str] | None = None, hidden: Sequence[str] = ()
) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        key = f"{dotted}.{name}"
        if name in hidden:
            if only is None and name != "warehouse":
                yield from _comment(f"{indent}# {name}:", _taken_over(name))
        elif _is_wanted(key, only):
            yield from _setting(key, field, indent, only)


def _taken_over(name: str) -> str:
    return "extract.out, unless set here" if name == "extract" else f"the section {name} above, unless set here"


def _setting(dotted: str, field: FieldInfo, indent: str, only: Sequence[str] | None) -> Iterator[str]:
    """Write one setting; a section as its settings, an optional section as null and its settings in comments."""
    name, default = dotted.rpartition(".")[2], field.get_default(call_default_factory=True)
    section = _section_of(field)
    if section is not None and default is not None and dotted not in _EXAMPLES:
        yield from _comment(f"{indent}{name}:", field.description or _summary(section))
        yield from _section(section, dotted, indent + "  ", only)
        return
    value = _EXAMPLES.get(dotted, None if default is PydanticUndefined else default)
    yield from _comment(f"{indent}{name}: {_flow(value)}", field.description or _DESCRIPTIONS.get(dotted, ""))
    if section is not None and default is None:
        yield f"{indent}# {name}:"
        yield from _section(section, dotted, f"{indent}#   ")


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the class of a field that is a section, or may be one."""
    for part in (field.annotation, *get_args(field.annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _summary(kind: type[BaseModel]) -> str:
    """Return the first line of a class's documentation, as a comment."""
    line = (kind.__doc__ or "").strip().splitlines()[0].rstrip(".").replace("``", "'")
    return line if line[1:2].isupper() or line.startswith("AdamW") else line[:1].lower() + line[1:]


def _comment(text: str, description: str) -> Iterator[str]:
    """Write a setting with its description to the right of it, on as many lines as that takes."""
    if not description:
        yield text
        return
    column = max(_COLUMN, len(text) + 2)
    if column > _WIDTH // 2:
        yield from (f"{' ' * (len(text) - len(text.lstrip()))}# {line}" for line in textwrap.wrap(description, 90))
        yield text
        return
    first, *more = textwrap.wrap(description, _WIDTH - column - 2)
    yield f"{text:<{column}}# {first}"
    yield from (f"{'':<{column}}# {line}" for line in more)


def _flow(value: Any) -> str:
    """Write a value as YAML on one line."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    plain = _plain(value)
    return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(exclude_none=True))
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
