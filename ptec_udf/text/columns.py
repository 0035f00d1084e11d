"""The text of a company as a Spark column; training and scoring use the same function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ptec_udf.errors import ConfigError, SourceError, did_you_mean
from ptec_udf.text.quoting import quote
from ptec_udf.text.template import CUT_MARK, MAX_CHARACTERS, Field, Template

_GAP = rf"[\p{{Cc}}\p{{Z}}{CUT_MARK}]+"
_VISIBLE = r"[^\p{C}\p{Z}]"
_UNSTABLE = re.compile("map<(binary|struct|array|map)|variant")  # to_json writes such keys by their memory address


def text_column(schema: T.StructType, template: Template, columns: Mapping[str, str | None] | None = None) -> Column:
    """Build the text of a row; ``columns`` maps template fields to other columns, or to None: null in every row.

    Raise ConfigError for unknown fields, SourceError naming each column that is missing or has no stable text.
    """
    columns = columns or {}
    if unknown := sorted(set(columns) - set(template.fields)):
        allowed = ", ".join(map(repr, template.fields))
        raise ConfigError([f"columns: {name!r} is not a template field; the fields are {allowed}" for name in unknown])
    wanted = {name: columns.get(name, name) for name in template.fields}
    if errors := column_errors(schema, wanted):
        raise SourceError(errors)

    def part(field: Field) -> tuple[str, Column]:
        source = wanted[field.name]
        value = F.lit(None).cast("string") if source is None else _value(quoted(source), schema[source].dataType)
        return field.separator, value

    segments = [
        (segment.separator, F.concat(F.lit(segment.heading), _joined([part(field) for field in segment.parts])))
        for segment in template.segments
    ]
    return F.concat(_joined(segments), F.lit(template.tail))


def text_hash(column: str | Column) -> Column:
    """Return the SHA-256 of a text's UTF-8 bytes in hexadecimal; null for a null text."""
    return F.sha2(column, 256)


def escape_glob(path: str) -> str:
    """Escape the characters of a path that Spark's readers would take for a glob pattern."""
    return re.sub(r"([\\{}\[\]*?])", r"\\\1", path)


def quoted(name: str) -> Column:
    """Return the column whose name is exactly ``name``, dots and backticks included."""
    return F.col(quote(name))


def clean(column: Column) -> Column:
    """Repair UTF-8, replace runs of white space and control characters by one space, trim; null if blank.

    A blank value has only separators and control, format, private or unassigned characters. Only the first
    ``MAX_CHARACTERS`` characters of a value are read; ``CUT_MARK`` then ends it.
    """
    valid = F.make_valid_utf8(column)
    # A substring of an unrepaired string may reach beyond its end.
    is_short = F.octet_length(valid) <= MAX_CHARACTERS
    read = F.when(is_short, valid).otherwise(F.substring(valid, 1, MAX_CHARACTERS))
    text = F.when(read.rlike(_VISIBLE), F.trim(F.regexp_replace(read, _GAP, " ")))
    is_whole = is_short | (F.char_length(valid) <= MAX_CHARACTERS)
    return F.concat(text, F.when(is_whole, F.lit("")).otherwise(F.lit(f" {CUT_MARK}")))


def _value(column: Column, dtype: T.DataType) -> Column:
    """Return a field's value as a clean string; null if blank. Times are in UTC: texts are equal in any session."""
    if isinstance(dtype, T.ArrayType):
        element = dtype.elementType
        values = F.transform(column, lambda item: _value(item, element))
        return F.nullif(F.array_join(F.array_compact(values), ", "), F.lit(""))
    if isinstance(dtype, T.MapType | T.StructType):
        return clean(F.nullif(F.to_json(column, {"timeZone": "UTC"}), F.lit("{}")))
    if isinstance(dtype, T.TimestampType):
        return clean(F.to_csv(F.struct(column), {"timeZone": "UTC"}))
    # A cast keeps a binary's bytes, which clean() repairs; decode() fails at invalid ones.
    return clean(column.cast("string"))


def _joined(parts: Sequence[tuple[str, Column]]) -> Column:
    """Join the non-null texts, each after its separator except the first; null if all are null."""

    def add(joined: Column, part: Column) -> Column:
        longer = F.concat(joined, part["separator"], part["text"])
        return F.when(part["text"].isNull(), joined).otherwise(F.coalesce(longer, part["text"]))

    items = [F.struct(F.lit(separator).alias("separator"), text.alias("text")) for separator, text in parts]
    return F.aggregate(F.array(*items), F.lit(None).cast("string"), add)


def column_errors(schema: T.StructType, wanted: Mapping[str, str | None]) -> list[str]:
    """List the columns of ``wanted`` (use -> column or None) that are missing, or whose text differs in each query."""
    errors, present = [], schema.names
    for use, source in wanted.items():
        if source is not None and source not in present:
            name, hint = f"{use!r}: " if use != source else "", did_you_mean(source, present)
            errors.append(f"{name}the source has no column {source!r}" + (hint and f"; {hint}"))
    if errors:
        errors.append(f"columns of the source: {', '.join(map(repr, present))}")
    for source in dict.fromkeys(wanted.values()):
        type_name = schema[source].dataType.simpleString() if source in present else ""
        if _UNSTABLE.search(type_name):
            rule = f"column {source!r} of the source has variants or maps with binary or nested keys"
            errors.append(f"{rule}, without a stable text; convert it to a string in a view, was: {type_name}")
    return errors
