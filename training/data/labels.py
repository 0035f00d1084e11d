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
from training.data.config import LabelColumn, LabelsConfig

_ELEMENTS = (T.StringType, T.CharType, T.VarcharType, T.NumericType, T.BooleanType, T.DateType, T.NullType)


def label_column(schema: T.StructType, config: LabelColumn, setting: str) -> Column:
    """Return clean, distinct, sorted labels; null where the source is null.

    Raises:
        SourceError: for a column of another type.
    """
    column, dtype = quoted(config.column), schema[config.column].dataType
    if config.delimiter is not None and isinstance(dtype, T.StringType | T.CharType | T.VarcharType):
        column = F.split(column, re.escape(config.delimiter))
    elif config.delimiter is not None or not isinstance(dtype, T.ArrayType):
        rule = "an array" if config.delimiter is None else f"a string, as {setting}.delimiter is set"
        raise SourceError(f"{setting}.column {config.column!r} must be {rule}, was {dtype.simpleString()}")
    elif not isinstance(dtype.elementType, _ELEMENTS):
        raise SourceError(
            f"{setting}.column {config.column!r} must be an array of text, numbers, booleans or dates, was "
            f"{dtype.simpleString()}; convert it in a view"
        )
    names = F.transform(column, lambda name: clean(name.cast("string")))
    return F.array_sort(F.array_distinct(F.array_compact(names)))


def auxiliary_column(schema: T.StructType, config: LabelColumn) -> Column:
    """Return auxiliary labels; null where there are none, since they are often noisy and then count as unknown."""
    labels = label_column(schema, config, "labels.auxiliary")
    return F.when(F.size(labels) > 0, labels)


def count_positives(kept: DataFrame, column: str, splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the labelled companies of every label in a column: label -> split -> count."""
    rows = (
        kept.where(F.col("labels").isNotNull())
        .select("split", F.explode(column).alias("label"))
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
        raise SourceError(_too_few("label", "labels", len(positives), config))
    return labels, dropped


def choose_auxiliary(positives: dict[str, dict[str, int]], config: LabelColumn) -> list[dict[str, Any]]:
    """Return the auxiliary labels to learn, in alphabetical order, each with its counts.

    Raises:
        SourceError: if no label has enough training companies.
    """
    chosen = [name for name in sorted(positives) if positives[name]["train"] >= config.min_positives]
    if not chosen:
        raise SourceError(_too_few("auxiliary label", "labels.auxiliary", len(positives), config))
    return [{"name": name, **positives[name]} for name in chosen]


def _too_few(kind: str, setting: str, n_labels: int, config: LabelColumn) -> str:
    return (
        f"at least one {kind} must have {config.min_positives} training companies ({setting}.min_positives), of "
        f"{n_labels} labels none has; lower {setting}.min_positives or check {setting}.column"
    )
