"""Analysts' corrections of labels: the newest yes or no of each company and label, applied to an extract.

Every row of the table gets one fate, and all fates are counted; none ends an extract, since anyone may
write a row. Labels are compared as the extract cleans them, keys as texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.errors import ConfigError, did_you_mean
from ptec_udf.log import logger
from ptec_udf.text.columns import clean
from ptec_udf.warehouse.corrections import is_complete, newest_corrections
from ptec_udf.warehouse.schemas import schema_faults
from ptec_udf.warehouse.tables import Warehouse

TABLE = "corrections"

YES, NO, WITHOUT_EFFECT = "yes", "no", "without_effect"
UNLABELLED, LEFT_OUT, UNKNOWN_KEY, UNKNOWN_LABEL = "unlabelled", "left_out", "unknown_key", "unknown_label"
_FATES = (YES, NO, WITHOUT_EFFECT, UNLABELLED, LEFT_OUT, UNKNOWN_KEY, UNKNOWN_LABEL)
SUPERSEDED, INCOMPLETE = "superseded", "incomplete"

# What a person may want to look into, with what it means.
_SAID = {
    INCOMPLETE: "have no key, label, is_true or at",
    UNKNOWN_KEY: "are of companies that the source does not have",
    UNKNOWN_LABEL: "are of labels that no company has",
    UNLABELLED: "are of companies without labels, whose other labels nobody knows",
    LEFT_OUT: "are of companies that the extract leaves out",
}
_MOST_NAMED = 10
_LONGEST_NAMED = 40


@contextmanager
def corrected(rows: DataFrame, warehouse: Warehouse, is_kept: Column) -> Iterator[tuple[DataFrame, dict[str, Any]]]:
    """Apply the corrections of a warehouse to the labels of rows.

    Args:
        rows: key, labels (distinct; null: not labelled) and what else there is; read several times. Of the
            rows of one key at most one is kept.
        warehouse: its table is read at its newest version; where it has none, nothing is corrected.
        is_kept: whether a row is one of the extract. Its labels are corrected, and make the taxonomy.

    Yields:
        The rows, cached while the block runs where anything was corrected, and the record: table, version
        (null where there is no table) and the number of its rows by fate.

    Raises:
        ConfigError: if the table lacks columns or has wrong types.
    """
    found = _read(warehouse)
    n_rows = found.table.count() if found else 0
    record = {"table": f"{warehouse.database}.{TABLE}", "version": found.version if found else None}
    if found is None or not n_rows:
        yield rows, record | {"counts": _counts(0, {}, 0)}
        return
    judged = _judged(newest_corrections(found.table), rows, is_kept).persist()
    applied: DataFrame | None = None
    try:
        fates = {row["correction"]: row["count"] for row in judged.groupBy("correction").count().collect()}
        counts = _counts(n_rows, fates, found.table.where(is_complete()).count())
        _tell(counts, judged, rows, is_kept)
        if counts[YES] or counts[NO]:
            applied = _applied(rows, judged, is_kept).persist()
        yield rows if applied is None else applied, record | {"counts": counts}
    finally:
        if applied is not None:
            applied.unpersist()
        judged.unpersist()


@dataclass(frozen=True)
class _Pinned:
    """The table at one version, its labels cleaned."""

    table: DataFrame
    version: int


def _read(warehouse: Warehouse) -> _Pinned | None:
    """Read the table at its newest version; None where it was never made, which is no reason to make it here."""
    if not warehouse.spark.catalog.tableExists(warehouse.name(TABLE)):
        return None
    version = warehouse.version(TABLE)
    table = warehouse.read(TABLE, version)
    if faults := schema_faults(TABLE, table.schema):
        raise ConfigError([f"database {warehouse.database}: {fault}" for fault in faults])
    return _Pinned(table.withColumn("label", clean(F.col("label"))), version)


def _judged(newest: DataFrame, rows: DataFrame, is_kept: Column) -> DataFrame:
    """Give each correction its fate."""
    known = _taxonomy(rows, is_kept).withColumn("is_known", F.lit(True))
    companies = (
        rows.where(F.col("key").isNotNull())
        .groupBy("key")
        .agg(F.max(is_kept).alias("is_kept"), F.first(F.when(is_kept, F.col("labels")), ignorenulls=True).alias("had"))
    )
    fate = (
        F.when(F.col("is_kept").isNull(), UNKNOWN_KEY)
        .when(F.col("is_known").isNull(), UNKNOWN_LABEL)
        .when(~F.col("is_kept"), LEFT_OUT)
        .when(F.col("had").isNull(), UNLABELLED)
        .when(F.array_contains("had", F.col("label")) == F.col("is_true"), WITHOUT_EFFECT)
        .when(F.col("is_true"), YES)
        .otherwise(NO)
    )
    joined = newest.join(companies, on="key", how="left").join(known, on="label", how="left")
    return joined.select("key", "label", fate.alias("correction"))


def _counts(n_rows: int, fates: dict[str, int], n_complete: int) -> dict[str, int]:
    """Count all rows of the table by fate."""
    counts = {"read": n_rows} | {fate: fates.get(fate, 0) for fate in _FATES}
    return counts | {SUPERSEDED: n_complete - sum(fates.values()), INCOMPLETE: n_rows - n_complete}


def _applied(rows: DataFrame, judged: DataFrame, is_kept: Column) -> DataFrame:
    """Add to the labels of kept rows what a yes adds, and take away what a no takes."""
    by_key = judged.groupBy("key").agg(
        *[
            F.collect_set(F.when(F.col("correction") == fate, F.col("label"))).alias(f"labels_{fate}")
            for fate in (YES, NO)
        ]
    )
    both = rows.join(by_key, on="key", how="left")
    labels = F.array_sort(F.array_union(F.array_except("labels", f"labels_{NO}"), F.col(f"labels_{YES}")))
    is_named = is_kept & F.col(f"labels_{YES}").isNotNull()
    return both.withColumn("labels", F.when(is_named, labels).otherwise(F.col("labels"))).select(*rows.columns)


def _tell(counts: dict[str, int], judged: DataFrame, rows: DataFrame, is_kept: Column) -> None:
    """Say what was corrected and what could not be."""
    logger.info(
        f"corrections: {counts[YES]} labels added, {counts[NO]} taken away, {counts[WITHOUT_EFFECT]} stood already"
    )
    for fate, meaning in _SAID.items():
        if counts[fate]:
            named = f": {_unknown_labels(judged, rows, is_kept)}" if fate == UNKNOWN_LABEL else ""
            logger.warning(f"{counts[fate]} corrections {meaning}{named}")


def _taxonomy(rows: DataFrame, is_kept: Column) -> DataFrame:
    """Return each label that a kept row has, once."""
    return rows.where(is_kept).select(F.explode("labels").alias("label")).distinct()


def _unknown_labels(judged: DataFrame, rows: DataFrame, is_kept: Column) -> str:
    """Name some labels that no company has, with those that they may stand for."""
    unknown = judged.where(F.col("correction") == UNKNOWN_LABEL).groupBy("label").count()
    found = unknown.orderBy(F.desc("count"), "label").limit(_MOST_NAMED).collect()
    known = [row["label"] for row in _taxonomy(rows, is_kept).collect()]
    return ", ".join(_named(row["label"], known) for row in found)


def _named(label: str, known: list[str]) -> str:
    """Name a label; a long one may be anything and is not shown."""
    if len(label) > _LONGEST_NAMED:
        return "(a long text)"
    hint = did_you_mean(label, known)
    return f"{label!r} ({hint})" if hint else repr(label)
