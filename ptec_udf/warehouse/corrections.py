"""Corrections by analysts: the newest yes or no for each company and label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.text.columns import clean


def is_complete() -> Column:
    """Return whether a row of table ``corrections`` has all that a correction needs."""
    return reduce(and_, [F.col(name).isNotNull() for name in ("key", "label", "is_true", "at")])


def newest_corrections(table: DataFrame) -> DataFrame:
    """Return key, label and is_true, one row for each company and label.

    Labels are cleaned as in training. Of a yes and a no at the same moment the yes wins.
    """
    newest = F.max(F.struct("at", "is_true")).alias("newest")
    cleaned = table.withColumn("label", clean(F.col("label"))).where(is_complete())
    return cleaned.groupBy("key", "label").agg(newest).select("key", "label", "newest.is_true")


def corrections_by_company(table: DataFrame, labels: Sequence[str]) -> DataFrame:
    """Return key and corrected: an array of (label, is_true) for each of ``labels`` that was corrected."""
    known = newest_corrections(table).where(F.col("label").isin(*labels))
    pairs = F.sort_array(F.collect_list(F.struct("label", "is_true")))
    return known.groupBy("key").agg(pairs.alias("corrected"))


def correction_of(corrected: Column, label: Column) -> Column:
    """Return whether a company has a label by its corrections; null without a correction of this label."""
    of_label = F.filter(corrected, lambda one: one["label"] == label)
    return F.try_element_at(F.transform(of_label, lambda one: one["is_true"]), F.lit(1))
