"""Faults of a configuration, from what pydantic says of them to rule, value and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from ptec_udf.errors import did_you_mean

SECRET: JsonDict = {"secret": True}
"""``json_schema_extra`` of a field whose values no message may quote."""

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


def switches_for_numbers(kind: type[BaseModel], values: Mapping[str, Any]) -> list[str]:
    """Name each true and false that pydantic would take for 1 or 0, by its place and what is wanted."""
    named = [(name, value) for name, value in values.items() if name in kind.model_fields]
    return [f"{name}{fault}" for name, value in named for fault in _switches(kind.model_fields[name].annotation, value)]


def _switches(annotation: Any, value: Any) -> list[str]:
    """Name switches within a value, by their places in it."""
    if isinstance(value, bool):
        plain = _plain_types(annotation)
        return [f": must be a number, was: {value!r}"] if plain & {int, float} and bool not in plain else []
    if isinstance(value, list):
        of_items = [part for part in _members(annotation) if get_origin(part) in (list, tuple)]
        inner = [get_args(part)[0] for part in of_items if get_args(part)]
        return [f".{at}{fault}" for at, item in enumerate(value) for one in inner for fault in _switches(one, item)]
    if not isinstance(value, Mapping):
        return []
    faults = []
    for part in _members(annotation):
        if get_origin(part) is dict:
            of_values = get_args(part)[1]
            faults += [f".{name}{fault}" for name, inner in value.items() for fault in _switches(of_values, inner)]
    sections = _sections_in([part for part in _members(annotation) if get_origin(part) is not dict])
    chosen = [section for section in sections if _tag(section) in value.values()] or sections[:1]
    return [*faults, *(f".{fault}" for section in chosen for fault in switches_for_numbers(section, value))]


def _members(annotation: Any) -> list[Any]:
    """Return what a value may be: the members of a union, and what is annotated."""
    if get_origin(annotation) in (Union, UnionType):
        return [part for member in get_args(annotation) for part in _members(member)]
    return _members(get_args(annotation)[0]) if get_origin(annotation) is Annotated else [annotation]


def _plain_types(annotation: Any) -> set[Any]:
    """Return the members that are types by themselves."""
    return {part for part in _members(annotation) if isinstance(part, type)}


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
    if isinstance(fault["input"], dict | BaseModel) or _is_secret(kind, fault["loc"]):
        return f"{where}: {message}" if where else message
    return f"{where}: {message}, was: {fault['input']!r}"


def _is_secret(kind: type[BaseModel], location: tuple[Any, ...]) -> bool:
    """Tell whether a value is one that nobody is to see."""
    sections = [kind]
    for part in location:
        fields = [section.model_fields[str(part)] for section in sections if str(part) in section.model_fields]
        if any(_may_be_secret(field) for field in fields):
            return True
        sections = [section for field in fields for section in _sections_in(field.annotation)]
    return any(_holds_secret(section) for section in sections)


def _holds_secret(section: type[BaseModel]) -> bool:
    """Tell whether a section has a value that nobody is to see: what stands in its place may be one."""
    return any(_may_be_secret(field) for field in section.model_fields.values())


def _may_be_secret(field: FieldInfo) -> bool:
    """Tell whether a field is a secret, or is marked as one that may hold some among others."""
    marks = field.json_schema_extra
    return SecretStr in _plain_types(field.annotation) or marks == SECRET


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
    """The configuration sections that an annotation, or each of several, speaks of."""
    if isinstance(annotation, list):
        return [section for part in annotation for section in _sections_in(part)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]


def _tag(section: type[BaseModel]) -> Any:
    """What tells a section from the others that may stand in its place."""
    literals = (field for field in section.model_fields.values() if get_origin(field.annotation) is Literal)
    return next((field.default for field in literals if len(get_args(field.annotation)) == 1), None)
