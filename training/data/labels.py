"""The labels of an extract: read from a column, counted, and chosen by their number of training companies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ptec_udf.errors import ConfigError, SourceError, did_you_mean
from ptec_udf.text.columns import clean, quoted
from training.data.config import LabelsConfig

_ELEMENTS = (T.StringType, T.CharType, T.VarcharType, T.NumericType, T.BooleanType, T.DateType, T.NullType)


def label_column(schema: T.StructType, config: LabelsConfig) -> Column:
    """Return clean, distinct, sorted labels; null where the source is null.

    Raises:
        SourceError: for a column of another type.
    """
    column, dtype = quoted(config.column), schema[config.column].dataType
    if config.delimiter is not None and isinstance(dtype, T.StringType | T.CharType | T.VarcharType):
        column = F.split(column, re.escape(config.delimiter))
    elif config.delimiter is not None or not isinstance(dtype, T.ArrayType):
        rule = "an array" if config.delimiter is None else "a string, as labels.delimiter is set"
        raise SourceError(f"labels.column {config.column!r} must be {rule}, was {dtype.simpleString()}")
    elif not isinstance(dtype.elementType, _ELEMENTS):
        raise SourceError(
            f"labels.column {config.column!r} must be an array of text, numbers, booleans or dates, was "
            f"{dtype.simpleString()}; convert it in a view"
        )
    names = F.transform(column, lambda name: clean(name.cast("string")))
    return F.array_sort(F.array_distinct(F.array_compact(names)))


def count_positives(kept: DataFrame, splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the companies of every label: label -> split -> count."""
    rows = (
        kept.select("split", F.explode("labels").alias("label"))
        .groupBy("label")
        .agg(*[F.count_if(F.col("split") == split).alias(split) for split in splits])
        .collect()
    )
    return {row.label: {split: row[split] for split in splits} for row in rows}


def choose_labels(
    positives: dict[str, dict[str, int]], config: LabelsConfig
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the labels to learn, in alphabetical order, and the dropped ones, each with its counts.

    Raises:
        ConfigError: for an excluded label that does not occur.
        SourceError: if no label has enough training companies.
    """
    excluded = {" ".join(name.split()) for name in config.exclude}
    if absent := sorted(excluded - set(positives)):
        remedy = "remove it or correct its spelling"
        raise ConfigError(
            [
                f"labels.exclude: no company has the label {name!r}; {did_you_mean(name, positives, remedy)}"
                for name in absent
            ]
        )
    labels: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for name in sorted(positives):
        entry: dict[str, Any] = {"name": name, **positives[name]}
        if name in excluded:
            dropped.append(entry | {"reason": "excluded"})
        elif entry["train"] < config.min_positives:
            dropped.append(entry | {"reason": "too few positives"})
        else:
            labels.append(entry)
    if not labels:
        raise SourceError(
            f"at least one label must have {config.min_positives} training companies (labels.min_positives), of "
            f"{len(positives)} labels none has; lower labels.min_positives or check labels.column"
        )
    return labels, dropped
