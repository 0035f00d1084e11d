"""Read a YAML configuration with overrides; report all its errors at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from ptec_udf.errors import ConfigError, did_you_mean
from ptec_udf.section import SECRET, messages_of

ConfigT = TypeVar("ConfigT", bound=BaseModel)

# PyYAML raises ValueError for an impossible date such as 2026-02-30, RecursionError for deep brackets.
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
_RULES = {
    "missing": "must be set",
    "string_type": "must be text, in quotes where YAML reads something else",
    "list_type": "must be a list, such as [a, b]",
    "model_type": "must be a section of keys and values",
}
_WITHOUT_VALUE = ("missing", "model_type", "union_tag_not_found")


def read_values(file: str | Path | None, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """Read a YAML mapping and apply overrides ``dotted.key=value``; return values, and errors of the overrides."""
    values = _read_yaml(file) if file is not None else {}
    return values, [error for text in overrides if (error := _apply(values, text))]


def check_values(kind: type[ConfigT], values: Any, section: str = "") -> tuple[ConfigT | None, list[str]]:
    """Validate values; return the configuration, or None with the errors, whose keys begin with the section."""
    try:
        return kind.model_validate(values), []
    except ValidationError as failure:
        prefix = f"{section}." if section else ""
        return None, [text for error in failure.errors() for text in _describe(kind, error, prefix)]


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, and reads 1e-3 as a number, as YAML 1.2 does."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping and compare its keys as they are written."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem="duplicate key", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _read_yaml(file: str | Path) -> dict[str, Any]:
    where = f"configuration file {str(file)!r}"
    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}") from None
    except _NOT_YAML as error:  # without the line, which may contain a secret
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"{where} is not YAML: {problem}" + (f", line {mark.line + 1}" if mark else "")) from None
    if not isinstance(values, dict | None):
        raise ConfigError(f"{where} must contain keys and values, found a {type(values).__name__}")
    return values or {}


def _apply(values: dict[str, Any], override: str) -> str | None:
    """Set one dotted key in place; return an error or None."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        begin = re.split(r"[^\w.]", override, maxsplit=1)[0]  # the rest may be a secret
        return f"--set takes dotted.key=value, there is no '=' after the key in {begin!r}"
    try:
        value = yaml.load(text, _Loader) if text else None
    except _NOT_YAML:
        return f"--set {dotted}: the value is not YAML; put quotes around a text"
    wrong = set_value(values, dotted.strip(), value)
    return f"--set {dotted}: {wrong}" if wrong else None


def set_value(values: dict[str, Any], dotted: str, value: Any) -> str | None:
    """Set one dotted key in place; return an error or None."""
    *parents, last = dotted.split(".")
    section = values
    for name in parents:
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            return f"{name!r} is a value, not a section"
    section[last] = value
    return None


def _describe(kind: type[BaseModel], error: Any, prefix: str) -> Iterator[str]:
    """Yield one pydantic error as lines of key, rule and value; several where ``refuse`` raised it."""
    location, rule = error["loc"], error["type"]
    key = (prefix + ".".join(map(str, location))).removesuffix(".")
    if rule == "extra_forbidden":
        known = sorted({name for section in _walk(kind, location[:-1])[0] for name in section.model_fields})
        yield f"{key}: unknown key; {did_you_mean(str(location[-1]), known, 'allowed here: ' + ', '.join(known))}"
        return
    is_quoted = rule not in _WITHOUT_VALUE and not isinstance(error["input"], dict | BaseModel)
    value = f", was: {error['input']!r}" if is_quoted and not _walk(kind, location)[1] else ""
    for message in [_RULES[rule]] if rule in _RULES else messages_of(error):
        message = re.sub(r"^(Input|String|List|Dictionary|Value) should", "must", message)
        yield f"{key}{': ' if key else ''}{message[0].lower()}{message[1:]}{value}"


def _walk(kind: type[BaseModel], location: Sequence[Any]) -> tuple[list[type[BaseModel]], bool]:
    """Return the sections that a location may be in, and whether its value is secret."""
    sections, is_secret = [kind], False
    for part in location:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        types = [one for field in fields for one in _types_in(field.annotation)]
        is_secret |= SecretStr in types or any(field.json_schema_extra == SECRET for field in fields)
        sections = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)] or sections
    return sections, is_secret


def _types_in(annotation: Any) -> list[Any]:
    """Return all types that an annotation names, inside lists, mappings and unions too."""
    return [annotation, *(one for part in get_args(annotation) for one in _types_in(part))]
