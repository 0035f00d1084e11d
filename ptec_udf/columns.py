"""Whether a source has the columns that are wanted, in types that have a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import types as T

from ptec_udf.errors import did_you_mean


def missing_columns(present: Sequence[str], wanted: Mapping[str, str | None]) -> list[str]:
    """Say which wanted columns are missing.

    Args:
        present: columns of the source.
        wanted: use -> column; a column of None is never missing.

    Returns:
        One fault for each missing column and a last one that lists what is present; or nothing.
    """
    faults = []
    for use, source in wanted.items():
        if source is not None and source not in present:
            name, hint = f"{use!r}: " if use != source else "", did_you_mean(source, present)
            faults.append(f"{name}the source has no column {source!r}" + (hint and f"; {hint}"))
    if faults:
        faults.append(f"columns of the source: {', '.join(map(repr, present))}")
    return faults


def unstable_columns(schema: T.StructType, wanted: Mapping[str, str | None]) -> list[str]:
    """Say which wanted columns have no text that is the same each time.

    Args:
        schema: of the source's rows.
        wanted: use -> column, as in ``missing_columns``, of which those that are missing are passed over.

    Returns:
        A fault for each such column.
    """
    columns = [source for source in wanted.values() if source in schema.names]
    return [
        f"column {source!r} of the source holds maps with binary or nested keys, which Spark writes otherwise each "
        f"time; make a text of it in a view, was: {schema[source].dataType.simpleString()}"
        for source in dict.fromkeys(columns)
        if _has_unstable_keys(schema[source].dataType)
    ]


def _has_unstable_keys(dtype: T.DataType) -> bool:
    """Tell whether maps in a type have keys that ``to_json`` writes by their place in memory."""
    if isinstance(dtype, T.ArrayType):
        return _has_unstable_keys(dtype.elementType)
    if isinstance(dtype, T.StructType):
        return any(_has_unstable_keys(field.dataType) for field in dtype)
    if isinstance(dtype, T.MapType):
        nested = T.BinaryType | T.ArrayType | T.StructType | T.MapType | T.VariantType
        return isinstance(dtype.keyType, nested) or _has_unstable_keys(dtype.valueType)
    return False
