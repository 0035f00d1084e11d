"""Read a YAML configuration with overrides; report all its errors at once.

Every command takes ``--config FILE`` and any number of ``--set dotted.key=value``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from ptec_udf.errors import ConfigError, did_you_mean
from ptec_udf.section import SECRET, messages_of

ConfigT = TypeVar("ConfigT", bound=BaseModel)

# PyYAML raises ValueError for an impossible date such as 2026-02-30, RecursionError for deep brackets.
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
_MERGE = "tag:yaml.org,2002:merge"  # the key "<<", which may come twice
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+")
_RULES = {
    "missing": "must be set",
    "string_type": "must be text, in quotes where YAML reads something else",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list, such as [a, b]",
    "model_type": "must be a section of keys and values",
}


def load_config(kind: type[ConfigT], file: str | Path | None, overrides: Sequence[str] = ()) -> ConfigT:
    """Read a file, apply overrides in order and validate the result.

    Args:
        kind: the configuration class.
        file: a YAML file; None: the defaults.
        overrides: texts of the form ``dotted.key=value``; the value is read as YAML.

    Raises:
        ConfigError: with all errors, each with key, rule and value.
    """
    values, errors = read_values(file, overrides)
    config, more = check_values(kind, values)
    if config is None or errors:
        raise ConfigError([*errors, *more])
    return config


def read_values(file: str | Path | None, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """Read a YAML mapping and apply overrides; return the values, and the errors of the overrides.

    Raises:
        ConfigError: when the file is not a readable YAML mapping.
    """
    values = _read_yaml(file) if file is not None else {}
    return values, [error for text in overrides if (error := _apply(values, text))]


def check_values(
    kind: type[ConfigT], values: Any, section: str = "", inherited: Collection[str] = ()
) -> tuple[ConfigT | None, list[str]]:
    """Validate the values of one section; return it, or None with the errors.

    Args:
        kind: the section's class.
        values: the content of the file.
        section: dotted name of the section, which begins each error's key.
        inherited: fields whose values come from a top-level section of the same name: their errors name that one.
    """
    try:
        return kind.model_validate(values), []
    except ValidationError as failure:
        errors = []
        for error in failure.errors():
            is_inherited = bool(error["loc"]) and error["loc"][0] in inherited
            errors += _describe(kind, error, "" if is_inherited else section)
        return None, errors


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, and reads 1e-3 as a number, as YAML 1.2 does."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping and compare its keys as they are written."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem="duplicate key", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^{_FLOAT.pattern}$"), list("-+.0123456789"))


def _load(text: str) -> Any:
    return yaml.load(text, _Loader)


def _read_yaml(file: str | Path) -> dict[str, Any]:
    where = f"configuration file {str(file)!r}"
    try:
        values = _load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{where} must be text in UTF-8") from None
    except _NOT_YAML as error:  # the line itself may hold a secret
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"{where} is not YAML: {problem}" + (f", line {mark.line + 1}" if mark else "")) from None
    if not isinstance(values, dict | None):
        raise ConfigError(f"{where} must hold keys and values, found a {type(values).__name__}")
    return values or {}


def _apply(values: dict[str, Any], override: str) -> str | None:
    """Set one dotted key in place; return an error or None."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        begin = re.split(r"[^\w.]", override, maxsplit=1)[0]  # the rest may be a secret
        return f"--set takes dotted.key=value, there is no '=' after the key in {begin!r}"
    *parents, last = dotted.strip().split(".")
    section = values
    for name in parents:
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            return f"--set {dotted}: {name!r} is a value, not a section"
    try:
        section[last] = _load(text) if text else None
    except _NOT_YAML:
        return f"--set {dotted}: the value is not YAML; put quotes around a text"
    return None


def _describe(kind: type[BaseModel], error: Any, section: str) -> list[str]:
    """Return one pydantic error as lines of key, rule and value; several where ``refuse`` raised it."""
    _, parents, _ = _walk(kind, error["loc"][:-1])
    keys, _, is_secret = _walk(kind, error["loc"])
    key = ".".join([section, *keys] if section else keys)
    if error["type"] == "extra_forbidden":
        known = {name for parent in parents for name in parent.model_fields}
        hint = did_you_mean(keys[-1], known, f"allowed here: {', '.join(sorted(known))}")
        return [f"{key}: unknown key; {hint}"]
    if error["type"] == "union_tag_not_found":
        return [f"{key}: {error['ctx']['discriminator']} must be set"]
    is_secret |= error["type"] in ("missing", "model_type") or isinstance(error["input"], dict | BaseModel)
    value = "" if is_secret else f", was: {error['input']!r}"
    messages = [_RULES[error["type"]]] if error["type"] in _RULES else map(_as_rule, messages_of(error))
    return [f"{key}: {message}{value}" if key else f"{message}{value}" for message in messages]


def _as_rule(message: str) -> str:
    message = re.sub(r"^(Input|String|List|Dictionary|Value) should", "must", message)
    return message[0].lower() + message[1:]


def _walk(kind: type[BaseModel], location: Sequence[Any]) -> tuple[list[str], list[type[BaseModel]], bool]:
    """Return the keys that a user writes for a location, the sections that it may be in, and whether it is secret.

    Where a section is one of several kinds, pydantic's location also contains the tag of the kind.
    """
    keys: list[str] = []
    sections, is_secret, in_mapping = [kind], False, False
    for part in location:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        tagged = [one for one in sections if part in (field.default for field in one.model_fields.values())]
        if in_mapping:
            keys.append(str(part))
            in_mapping = False
        elif len(sections) > 1 and tagged:
            sections = tagged
        elif part != "[key]":
            keys.append(str(part))
            types = [one for field in fields for one in _types_in(field.annotation)]
            is_secret |= SecretStr in types or any(field.json_schema_extra == SECRET for field in fields)
            sections = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)] or sections
            in_mapping = any(get_origin(one) is dict for one in types)
    return keys, sections, is_secret


def _types_in(annotation: Any) -> list[Any]:
    """Return all types that an annotation names, inside lists, mappings and unions too."""
    return [annotation, *(one for part in get_args(annotation) for one in _types_in(part))]
