"""Make a company's text from its columns; the only way that text is made, in training and scoring.

A template such as ``"Company name: {name}. Keywords: {tags}. Description: {one_liner} {long_description}"``
names fields in braces; ``{{`` and ``}}`` are literal braces. The words around a field go with it:

* The literal before a field is a separator (up to its first letter or digit, here ``". "``) and a
  heading (the rest, here ``"Keywords: "``).
* A field whose literal has no heading continues the segment of the field before it.
* A null or blank field drops out with its own separator, a segment without any value with its heading.
* A separator stands only between two things that are there.
* What follows the last field is kept if any field had a value; without any the text is null.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ptec_udf.columns import missing_columns, unstable_columns
from ptec_udf.errors import ConfigError, SourceError

TEXT_VERSION = 3
"""Part of ``text_id``: raise it when the rules in this file change the text of any row."""

MOST_CHARACTERS = 1_000_000
"""Of a value that are read: more of them than any model's window, and few enough for memory."""

_CUT = "\uffff"
"""Ends a value of which no more was read. No character of Unicode's: it leaves such for a program's own use."""

_TOKEN = re.compile(r"\{\{|\}\}|\{(?P<field>[^{}]*)\}|[{}]|[^{}]+")
_GAP = rf"[\p{{Cc}}\p{{Z}}{_CUT}]+"
_VISIBLE = r"[^\p{C}\p{Z}]"
_MICROS_OF_A_DAY = 86_400_000_000


@dataclass(frozen=True)
class Field:
    """A field of a template and what stands between it and the field before it."""

    separator: str
    name: str


@dataclass(frozen=True)
class Segment:
    """Fields under one heading; the heading is empty where the template has no words before them."""

    separator: str
    heading: str
    parts: tuple[Field, ...]


@dataclass(frozen=True)
class Template:
    """A parsed template."""

    text: str
    segments: tuple[Segment, ...]
    tail: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, each once, in the order of the template."""
        return tuple(dict.fromkeys(part.name for segment in self.segments for part in segment.parts))


def parse_template(template: str) -> Template:
    """Split ``template`` into segments, fields and tail.

    Raises:
        ConfigError: with every unbalanced brace and empty field, or that there is no field at all.
    """
    literals, fields, faults = [""], [], []
    for token in _TOKEN.finditer(template):
        name, place = token["field"], token.start() + 1
        if name is None and token[0] in ("{", "}"):
            faults.append(f"template has an unbalanced {token[0]!r} at character {place}; double a literal brace")
        elif name is None:
            literals[-1] += token[0][0] if token[0] in ("{{", "}}") else token[0]
        elif not name.strip():
            faults.append(f"template has an empty field at character {place}; write a column's name between the braces")
        else:
            fields.append(name)
            literals.append("")
    if not faults and not fields:
        faults.append(f"template must have at least one field such as {{name}}, was: {template!r}")
    if faults:
        raise ConfigError(faults)
    return Template(template, _segments(literals, fields), literals[-1])


def _segments(literals: Sequence[str], fields: Sequence[str]) -> tuple[Segment, ...]:
    """Group fields under their headings; ``literals[i]`` stands before ``fields[i]``."""
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


def text_column(schema: T.StructType, template: Template, columns: Mapping[str, str | None] | None = None) -> Column:
    """Text of a row.

    Args:
        schema: of the source's rows.
        template: what the text is made of.
        columns: template field -> column of the source where the names differ; None: there is no such
            column and the field is null in every row.

    Raises:
        ConfigError: if ``columns`` names a field that the template does not have.
        SourceError: with every field whose column the source does not have, or has in a type without a text.
    """
    columns = columns or {}
    if unknown := sorted(set(columns) - set(template.fields)):
        allowed = ", ".join(map(repr, template.fields))
        raise ConfigError([f"columns: {name!r} is not a template field; the fields are {allowed}" for name in unknown])
    wanted = {name: columns.get(name, name) for name in template.fields}
    if faults := missing_columns(schema.names, wanted) + unstable_columns(schema, wanted):
        raise SourceError(faults)

    def part(field: Field) -> tuple[str, Column]:
        source = columns.get(field.name, field.name)
        return field.separator, _null() if source is None else _value(quoted(source), schema[source].dataType)

    segments = [
        (segment.separator, F.concat(F.lit(segment.heading), _joined([part(field) for field in segment.parts])))
        for segment in template.segments
    ]
    return F.concat(_joined(segments), F.lit(template.tail))


def is_cut(text: str) -> bool:
    """Tell whether a value in a text of ``text_column`` was not read to its end."""
    return _CUT in text


def text_hash(column: str | Column) -> Column:
    """SHA-256 of a text's UTF-8 bytes in hexadecimal; null for a null text."""
    return F.sha2(column, 256)


def text_id(template: str, columns: Mapping[str, str | None] | None = None, key: str = "") -> str:
    """Short hash of all that decides how a row becomes a key and a text: template, column names, our rules."""
    renamed = sorted((field, source) for field, source in (columns or {}).items() if field != source)
    return hashlib.sha256(json.dumps([TEXT_VERSION, template, renamed, key]).encode()).hexdigest()[:16]


def fields_in(template: str, columns: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return those of the columns, which are mapped for another template, that this one has a field for."""
    fields = parse_template(template).fields
    return {field: source for field, source in columns.items() if field in fields}


def quote(*parts: str) -> str:
    """Write the parts of a name as a quoted SQL identifier."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def no_pattern(path: str) -> str:
    """Write a path so that Spark's readers take none of its characters for a pattern of several."""
    return re.sub(r"([\\{}\[\]*?])", r"\\\1", path)


def quoted(name: str) -> Column:
    """Column whose name is exactly ``name``, dots and backticks included."""
    return F.col(quote(name))


def is_blank(text: str) -> bool:
    """Tell whether nothing of a text can be seen: ``clean`` makes null of it."""
    return all(unicodedata.category(one)[0] in "CZ" for one in text)


def clean(column: Column) -> Column:
    """Repair UTF-8, make every run of white space and control characters one space, trim; null if blank.

    Blank is a string of nothing but separators and control, format, private or unassigned characters. Of what
    is longer than ``MOST_CHARACTERS`` the first so many are taken, since each step here copies it, with a mark behind.
    """
    valid = F.make_valid_utf8(column)
    # Of what is not repaired a substring may reach beyond its end.
    is_short = F.octet_length(valid) <= MOST_CHARACTERS
    read = F.when(is_short, valid).otherwise(F.substring(valid, 1, MOST_CHARACTERS))
    text = F.when(read.rlike(_VISIBLE), F.trim(F.regexp_replace(read, _GAP, " ")))
    is_whole = is_short | (F.char_length(valid) <= MOST_CHARACTERS)
    return F.concat(text, F.when(is_whole, F.lit("")).otherwise(F.lit(f" {_CUT}")))


def _value(column: Column, dtype: T.DataType) -> Column:
    """A field's value as a clean string; null where it is blank."""
    if isinstance(dtype, T.ArrayType):
        element = dtype.elementType
        values = F.transform(column, lambda item: _value(item, element))
        return F.nullif(F.array_join(F.array_compact(values), ", "), F.lit(""))
    if isinstance(dtype, T.VariantType):
        string = F.when(F.schema_of_variant(column) == "STRING", F.try_variant_get(column, "$", "string"))
        json = F.to_json(column, {"timeZone": "UTC"})  # which writes a missing value as a word, and strings in quotes
        return clean(F.when(~F.is_variant_null(column), F.coalesce(string, F.nullif(json, F.lit("{}")))))
    if isinstance(dtype, T.MapType | T.StructType):
        return clean(F.nullif(F.to_json(column, {"timeZone": "UTC"}), F.lit("{}")))
    if isinstance(dtype, T.TimestampType):
        # As UTC shows it, whatever the session's zone is: a text must be the same in training and in every night.
        column = F.lit("1970-01-01").cast("timestamp_ntz") + _interval(F.unix_micros(column))
    # A cast keeps a binary's bytes, which clean() then repairs; decode() stops at invalid ones.
    return clean(column.cast("string"))


def _interval(micros: Column) -> Column:
    """Make an interval of microseconds. Spark takes no more seconds for one than lead to the year 33,658."""
    within_day = micros % F.lit(_MICROS_OF_A_DAY)
    days = (micros - within_day).cast("decimal(20, 0)") / F.lit(_MICROS_OF_A_DAY)
    return F.make_dt_interval(days=days.cast("int"), secs=within_day.cast("decimal(20, 0)") / F.lit(1_000_000))


def _joined(parts: Sequence[tuple[str, Column]]) -> Column:
    """Join the texts that are not null, each but the first after its separator; null if there is none."""

    def add(joined: Column, part: Column) -> Column:
        longer = F.concat(joined, part["separator"], part["text"])
        return F.when(part["text"].isNull(), joined).otherwise(F.coalesce(longer, part["text"]))

    items = [F.struct(F.lit(separator).alias("separator"), text.alias("text")) for separator, text in parts]
    return F.aggregate(F.array(*items), _null(), add)


def _null() -> Column:
    """Null of type string."""
    return F.lit(None).cast("string")
