"""Read a YAML configuration with overrides; name all its faults at once.

Every command takes ``--config FILE`` and any number of ``--set dotted.key=value``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ptec_udf.errors import ConfigError
from ptec_udf.faults import sentences, switches_for_numbers

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load_config(kind: type[ConfigT], file: str | Path | None, overrides: Sequence[str] = ()) -> ConfigT:
    """Read ``file``, apply ``overrides`` in order and validate the result.

    Args:
        kind: the configuration class.
        file: a YAML file; None starts from the defaults.
        overrides: texts of the form ``dotted.key=value``; the value is read as YAML.

    Raises:
        ConfigError: with every error that was found, each with rule, value and remedy.
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
    kind: type[ConfigT], values: Mapping[str, Any], section: str = "", inherited: Collection[str] = ()
) -> tuple[ConfigT | None, list[str]]:
    """Validate the values of one section; return it, or None with the errors.

    Args:
        kind: the section's class.
        values: what the file contains.
        section: dotted name of the section, which begins each error's key.
        inherited: fields whose values come from a top-level section of the same name: their errors name that one.
    """
    before = f"{section}." if section else ""
    errors = [before + error for error in switches_for_numbers(kind, values)]
    try:
        config = kind.model_validate(values)
    except ValidationError as error:
        for one in error.errors():
            at_root = f"{section}: " if section else ""
            where = at_root if not one["loc"] else "" if one["loc"][0] in inherited else before
            errors += [where + sentence for sentence in sentences(kind, one)]
        return None, errors
    return (None if errors else config), errors


# PyYAML lets the errors of dates and numbers through that look like some, such as 2026-02-30, and of deep brackets.
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)


_MERGE = "tag:yaml.org,2002:merge"  # "<<", of which two are read as one of both


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one place: the last would count, and nothing would say so."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping, and compare its keys as they are written."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem="a key stands twice in one place", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


def _load(text: str) -> Any:
    """Read YAML."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _read_yaml(file: str | Path) -> dict[str, Any]:
    """Read a mapping from a YAML file."""
    try:
        values = _load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {str(file)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"configuration file {str(file)!r} must be text in UTF-8") from None
    except _NOT_YAML as error:
        raise ConfigError(f"configuration file {str(file)!r} is not YAML: {_place(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"configuration file {str(file)!r} must hold keys and values, found a {type(values).__name__}"
        )
    return values


def _place(error: Exception) -> str:
    """Say what is wrong and where, and quote nothing: the line may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"{problem}, line {mark.line + 1}" if mark else str(problem)


def _apply(values: dict[str, Any], override: str) -> str | None:
    """Set one dotted key in place; return a fault or None."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        begin = re.split(r"[^\w.]", override, maxsplit=1)[0]  # what follows may be a secret
        return f"--set takes dotted.key=value, there is no '=' after the key in {begin!r}"
    *parents, last = dotted.strip().split(".")
    place = values
    for name in parents:
        if place.get(name) is None:
            place[name] = {}
        place = place[name]
        if not isinstance(place, dict):
            return f"--set {dotted}: {name!r} is a value, not a section"
    try:
        place[last] = _load(text) if text else None
    except _NOT_YAML:
        return f"--set {dotted}: the value is not YAML; put quotes around a text"
    return None
