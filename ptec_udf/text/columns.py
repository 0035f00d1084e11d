"""The text of a company as a Spark column; training and scoring use the same function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ptec_udf.errors import ConfigError, SourceError, did_you_mean
from ptec_udf.text.template import CUT_MARK, MAX_CHARACTERS, Field, Template

_GAP = rf"[\p{{Cc}}\p{{Z}}{CUT_MARK}]+"
_VISIBLE = r"[^\p{C}\p{Z}]"
_MICROS_OF_A_DAY = 86_400_000_000


def text_column(schema: T.StructType, template: Template, columns: Mapping[str, str | None] | None = None) -> Column:
    """Build the text of a row.

    Args:
        schema: of the source's rows.
        template: what the text is made of.
        columns: template field -> column of the source if the names differ; None: no such column, the
            field is null in every row.

    Raises:
        ConfigError: if ``columns`` names a field that the template does not have.
        SourceError: naming every field whose column is missing or has a type without a stable text.
    """
    columns = columns or {}
    if unknown := sorted(set(columns) - set(template.fields)):
        allowed = ", ".join(map(repr, template.fields))
        raise ConfigError([f"columns: {name!r} is not a template field; the fields are {allowed}" for name in unknown])
    wanted = {name: columns.get(name, name) for name in template.fields}
    if errors := missing_columns(schema.names, wanted) + unstable_columns(schema, wanted):
        raise SourceError(errors)

    def part(field: Field) -> tuple[str, Column]:
        source = columns.get(field.name, field.name)
        return field.separator, _null() if source is None else _value(quoted(source), schema[source].dataType)

    segments = [
        (segment.separator, F.concat(F.lit(segment.heading), _joined([part(field) for field in segment.parts])))
        for segment in template.segments
    ]
    return F.concat(_joined(segments), F.lit(template.tail))


def text_hash(column: str | Column) -> Column:
    """Return the SHA-256 of a text's UTF-8 bytes in hexadecimal; null for a null text."""
    return F.sha2(column, 256)


def quote(*parts: str) -> str:
    """Write the parts of a name as a quoted SQL identifier."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


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
    """Return a field's value as a clean string; null if blank."""
    if isinstance(dtype, T.ArrayType):
        element = dtype.elementType
        values = F.transform(column, lambda item: _value(item, element))
        return F.nullif(F.array_join(F.array_compact(values), ", "), F.lit(""))
    if isinstance(dtype, T.VariantType):
        string = F.when(F.schema_of_variant(column) == "STRING", F.try_variant_get(column, "$", "string"))
        json = F.to_json(column, {"timeZone": "UTC"})  # writes a missing value as a word, and quotes strings
        return clean(F.when(~F.is_variant_null(column), F.coalesce(string, F.nullif(json, F.lit("{}")))))
    if isinstance(dtype, T.MapType | T.StructType):
        return clean(F.nullif(F.to_json(column, {"timeZone": "UTC"}), F.lit("{}")))
    if isinstance(dtype, T.TimestampType):
        # In UTC, whatever the session's zone is: texts must be equal in training and in every run.
        column = F.lit("1970-01-01").cast("timestamp_ntz") + _interval(F.unix_micros(column))
    # A cast keeps a binary's bytes, which clean() repairs; decode() fails at invalid ones.
    return clean(column.cast("string"))


def _interval(micros: Column) -> Column:
    """Make an interval of microseconds from days and seconds: seconds alone overflow in the year 33,658."""
    within_day = micros % F.lit(_MICROS_OF_A_DAY)
    days = (micros - within_day).cast("decimal(20, 0)") / F.lit(_MICROS_OF_A_DAY)
    return F.make_dt_interval(days=days.cast("int"), secs=within_day.cast("decimal(20, 0)") / F.lit(1_000_000))


def _joined(parts: Sequence[tuple[str, Column]]) -> Column:
    """Join the non-null texts, each after its separator except the first; null if all are null."""

    def add(joined: Column, part: Column) -> Column:
        longer = F.concat(joined, part["separator"], part["text"])
        return F.when(part["text"].isNull(), joined).otherwise(F.coalesce(longer, part["text"]))

    items = [F.struct(F.lit(separator).alias("separator"), text.alias("text")) for separator, text in parts]
    return F.aggregate(F.array(*items), _null(), add)


def _null() -> Column:
    """Return null of type string."""
    return F.lit(None).cast("string")


def missing_columns(present: Sequence[str], wanted: Mapping[str, str | None]) -> list[str]:
    """List wanted columns that are missing.

    Args:
        present: columns of the source.
        wanted: use -> column; a column of None is never missing.

    Returns:
        One error for each missing column, then one that lists the columns present; empty if none is missing.
    """
    errors = []
    for use, source in wanted.items():
        if source is not None and source not in present:
            name, hint = f"{use!r}: " if use != source else "", did_you_mean(source, present)
            errors.append(f"{name}the source has no column {source!r}" + (hint and f"; {hint}"))
    if errors:
        errors.append(f"columns of the source: {', '.join(map(repr, present))}")
    return errors


def unstable_columns(schema: T.StructType, wanted: Mapping[str, str | None]) -> list[str]:
    """List wanted columns whose text differs from query to query.

    Args:
        schema: of the source's rows.
        wanted: use -> column, as in ``missing_columns``; missing columns are skipped.

    Returns:
        One error for each such column.
    """
    columns = [source for source in wanted.values() if source in schema.names]
    return [
        f"column {source!r} of the source has maps with binary or nested keys, whose text differs from query to "
        f"query; convert it to a string in a view, was: {schema[source].dataType.simpleString()}"
        for source in dict.fromkeys(columns)
        if _has_unstable_keys(schema[source].dataType)
    ]


def _has_unstable_keys(dtype: T.DataType) -> bool:
    """Return whether maps in a type have keys that ``to_json`` writes by their memory address."""
    if isinstance(dtype, T.ArrayType):
        return _has_unstable_keys(dtype.elementType)
    if isinstance(dtype, T.StructType):
        return any(_has_unstable_keys(field.dataType) for field in dtype)
    if isinstance(dtype, T.MapType):
        nested = T.BinaryType | T.ArrayType | T.StructType | T.MapType | T.VariantType
        return isinstance(dtype.keyType, nested) or _has_unstable_keys(dtype.valueType)
    return False
