"""Faults of a configuration, from what pydantic says of them to rule, value and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from ptec_udf.errors import did_you_mean

_BETWEEN_FAULTS = "\n"


def refuse(faults: Iterable[str]) -> None:
    """Raise what a validator raises, with several faults, each of which is told by itself; without any do nothing.

    Raises:
        ValueError: with the faults, each once.
    """
    if different := dict.fromkeys(faults):
        raise ValueError(_BETWEEN_FAULTS.join(different))


def messages_of(fault: Any) -> list[str]:
    """Return what one error of pydantic says, without its name; several messages where ``refuse`` raised it."""
    return str(fault["msg"]).removeprefix("Value error, ").split(_BETWEEN_FAULTS)


def sentences(kind: type[BaseModel], fault: Any) -> list[str]:
    """Say one error of pydantic as rule, value and what to do; one that ``refuse`` raised as several."""
    return [_sentence(kind, fault, message) for message in messages_of(fault)]


def switches_for_numbers(kind: type[BaseModel], values: Mapping[str, Any], within: str = "") -> list[str]:
    """Name each true and false that pydantic would take for 1 or 0."""
    faults = []
    for name, value in values.items():
        field = kind.model_fields.get(name)
        annotation = str(field.annotation) if field else ""
        if isinstance(value, bool) and ("int" in annotation or "float" in annotation) and "bool" not in annotation:
            faults.append(f"{within}{name}: must be a number, was: {value!r}")
        elif isinstance(value, Mapping) and field and get_origin(field.annotation) is not dict:
            for section in _sections_in(field.annotation)[:1]:
                faults += switches_for_numbers(section, value, f"{within}{name}.")
    return faults


def _sentence(kind: type[BaseModel], fault: Any, message: str) -> str:
    keys, _ = _place(kind, fault["loc"])
    where = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        _, sections = _place(kind, fault["loc"][:-1])
        allowed = {name for section in sections for name in section.model_fields}
        hint = did_you_mean(str(fault["loc"][-1]), allowed, f"allowed here: {', '.join(sorted(allowed))}")
        return f"{where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: must be set"
    if fault["type"] == "union_tag_not_found":
        return f"{where}: {fault['ctx']['discriminator']} must be set"
    message = message[0].lower() + message[1:]
    if fault["type"] == "list_type":
        message = f"must be a list, such as [{fault['input']}]"
    if isinstance(fault["input"], dict | BaseModel):
        return f"{where}: {message}" if where else message
    return f"{where}: {message}, was: {fault['input']!r}"


def _place(kind: type[BaseModel], location: tuple[Any, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """Say where a fault is in the keys that a user writes, and which sections may stand there.

    Where a section can be one of several, pydantic's location also names which one it took.
    """
    keys: list[str] = []
    sections, in_mapping = [kind], False
    for part in location:
        if in_mapping:
            keys, in_mapping = [*keys, str(part)], False
        elif len(sections) > 1:
            sections = [section for section in sections if _tag(section) == part]
        else:
            keys.append(str(part))
            field = sections[0].model_fields.get(str(part)) if sections else None
            annotation = field.annotation if field else None
            sections, in_mapping = _sections_in(annotation), get_origin(annotation) is dict
    return keys, sections


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The configuration sections that an annotation speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]


def _tag(section: type[BaseModel]) -> Any:
    """What tells a section from the others that may stand in its place."""
    literals = (field for field in section.model_fields.values() if get_origin(field.annotation) is Literal)
    return next((field.default for field in literals if len(get_args(field.annotation)) == 1), None)
