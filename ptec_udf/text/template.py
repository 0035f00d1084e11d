"""Template of a company text: fields, headings and separators; without Spark.

A template such as ``"Company name: {name}. Keywords: {tags}. Description: {one_liner} {long_description}"``
names fields in braces; ``{{`` and ``}}`` are literal braces. The literals around a field belong to it:

* The literal before a field is a separator (up to its first letter or digit, here ``". "``) and a
  heading (the rest, here ``"Keywords: "``).
* A field whose literal has no heading continues the segment of the field before it.
* A null or blank field drops out with its own separator, a segment without any value with its heading.
* A separator appears only between two parts that are present.
* What follows the last field is kept if any field had a value; without any the text is null.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptec_udf.errors import ConfigError

TEXT_VERSION = 4
"""Part of ``text_id``: raise it when the rules in this file change the text of any row."""

MAX_CHARACTERS = 1_000_000  # of a value are read: more than any model's window, few enough for memory

CUT_MARK = "\uffff"
"""Ends a value that was not read to its end. A Unicode noncharacter, reserved for a program's own use."""

_TOKEN = re.compile(r"\{\{|\}\}|\{(?P<field>[^{}]*)\}|[{}]|[^{}]+")


@dataclass(frozen=True)
class Field:
    """A field of a template and the separator between it and the field before it."""

    separator: str
    name: str


@dataclass(frozen=True)
class Segment:
    """Fields under one heading; the heading is empty if the template has no words before them."""

    separator: str
    heading: str
    parts: tuple[Field, ...]


@dataclass(frozen=True)
class Template:
    """A parsed template."""

    segments: tuple[Segment, ...]
    tail: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, each once, in the order of the template."""
        return tuple(dict.fromkeys(part.name for segment in self.segments for part in segment.parts))


def parse_template(template: str) -> Template:
    """Split a template into segments, fields and tail; raise ConfigError with all its errors."""
    literals, fields, errors = [""], [], []
    for token in _TOKEN.finditer(template):
        name, position = token["field"], token.start() + 1
        if name is None and token[0] in ("{", "}"):
            errors.append(f"template has an unbalanced {token[0]!r} at character {position}; double a literal brace")
        elif name is None:
            literals[-1] += token[0][0] if token[0] in ("{{", "}}") else token[0]
        elif not name.strip():
            errors.append(f"template has an empty field at character {position}; write a column between the braces")
        else:
            fields.append(name)
            literals.append("")
    if not errors and not fields:
        errors.append(f"template must have at least one field such as {{name}}, was: {template!r}")
    if errors:
        raise ConfigError(errors)
    return Template(_segments(literals, fields), literals[-1])


def _segments(literals: Sequence[str], fields: Sequence[str]) -> tuple[Segment, ...]:
    """Group fields under their headings; ``literals[i]`` comes before ``fields[i]``."""
    segments: list[Segment] = []
    for literal, name in zip(literals, fields, strict=False):
        start = next((i for i, character in enumerate(literal) if character.isalnum()), len(literal))
        separator, heading = literal[:start], literal[start:]
        if segments and not heading:
            last = segments[-1]
            segments[-1] = Segment(last.separator, last.heading, (*last.parts, Field(separator, name)))
        else:
            segments.append(Segment(separator, heading, (Field("", name),)))
    return tuple(segments)


def is_cut(text: str) -> bool:
    """Return whether a value in a text of ``text_column`` was not read to its end."""
    return CUT_MARK in text


def text_id(template: str, columns: Mapping[str, str | None] | None = None, key: str = "") -> str:
    """Return a short hash of template, column names and rules, which turn rows into keys and texts."""
    renamed = sorted((field, source) for field, source in (columns or {}).items() if field != source)
    return hashlib.sha256(json.dumps([TEXT_VERSION, template, renamed, key]).encode()).hexdigest()[:16]


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character: ``clean`` turns it into null."""
    return all(unicodedata.category(one)[0] in "CZ" for one in text)
