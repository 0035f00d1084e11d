"""Analysts' corrections: the newest yes or no of each company and label, applied to the labels of an extract.

Every correction gets one status, and all statuses are counted. None stops an extract, since anyone may write a row.
Labels are compared as the extract cleans them, keys as texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.errors import ConfigError, did_you_mean
from ptec_udf.log import logger
from ptec_udf.text.columns import clean
from ptec_udf.warehouse.corrections import is_complete, newest_corrections
from ptec_udf.warehouse.schemas import schema_errors
from ptec_udf.warehouse.tables import Warehouse

TABLE = "corrections"

YES, NO, WITHOUT_EFFECT = "yes", "no", "without_effect"
UNLABELLED, LEFT_OUT, UNKNOWN_KEY, UNKNOWN_LABEL = "unlabelled", "left_out", "unknown_key", "unknown_label"
SUPERSEDED, INCOMPLETE = "superseded", "incomplete"
_STATUSES = (YES, NO, WITHOUT_EFFECT, UNLABELLED, LEFT_OUT, UNKNOWN_KEY, UNKNOWN_LABEL)
_WARNINGS = {
    INCOMPLETE: "have no key, label, is_true or at",
    UNKNOWN_KEY: "are of companies that are not in the source",
    UNKNOWN_LABEL: "are of labels that no company has",
    UNLABELLED: "are of companies without labels, whose other labels are unknown",
    LEFT_OUT: "are of companies that the extract leaves out",
}
_MAX_NAMED = 10
_MAX_NAMED_CHARACTERS = 40


@contextmanager
def apply_corrections(
    rows: DataFrame, warehouse: Warehouse, is_kept: Column
) -> Iterator[tuple[DataFrame, dict[str, Any]]]:
    """Apply the corrections of a warehouse to the labels of rows.

    Args:
        rows: key, labels (distinct; null: not labelled) and other columns; read several times. At most one row of a
            key is kept.
        warehouse: its table is read at its newest version; without a table nothing is corrected.
        is_kept: whether a row is in the extract. Labels of kept rows are the taxonomy.

    Yields:
        The corrected rows, cached while the block runs, and the record: table, version (null without a table) and the
        number of corrections by status.

    Raises:
        ConfigError: if the table lacks columns or has wrong types.
    """
    record: dict[str, Any] = {"table": f"{warehouse.database}.{TABLE}", "version": None}
    if not warehouse.spark.catalog.tableExists(warehouse.name(TABLE)):
        yield rows, record | {"counts": _count(0, 0, {})}
        return
    record["version"] = warehouse.version(TABLE)
    table = warehouse.read(TABLE, record["version"])
    if errors := schema_errors(TABLE, table.schema):
        raise ConfigError([f"database {warehouse.database}: {error}" for error in errors])
    table = table.withColumn("label", clean(F.col("label")))
    classified = _classify(newest_corrections(table), rows, is_kept).persist()
    corrected = _apply(rows, classified, is_kept).persist()
    try:
        statuses = {row["status"]: row["count"] for row in classified.groupBy("status").count().collect()}
        counts = _count(table.count(), table.where(is_complete()).count(), statuses)
        _log(counts, classified, rows, is_kept)
        yield corrected if counts[YES] or counts[NO] else rows, record | {"counts": counts}
    finally:
        corrected.unpersist()
        classified.unpersist()


def _classify(newest: DataFrame, rows: DataFrame, is_kept: Column) -> DataFrame:
    """Add ``status`` to each correction."""
    taxonomy = _taxonomy(rows, is_kept).withColumn("is_known", F.lit(True))
    companies = (
        rows.where(F.col("key").isNotNull())
        .groupBy("key")
        .agg(
            F.max(is_kept).alias("is_kept"),
            F.first(F.when(is_kept, F.col("labels")), ignorenulls=True).alias("labels"),
        )
    )
    status = (
        F.when(F.col("is_kept").isNull(), UNKNOWN_KEY)
        .when(F.col("is_known").isNull(), UNKNOWN_LABEL)
        .when(~F.col("is_kept"), LEFT_OUT)
        .when(F.col("labels").isNull(), UNLABELLED)
        .when(F.array_contains("labels", F.col("label")) == F.col("is_true"), WITHOUT_EFFECT)
        .when(F.col("is_true"), YES)
        .otherwise(NO)
    )
    joined = newest.join(companies, on="key", how="left").join(taxonomy, on="label", how="left")
    return joined.select("key", "label", status.alias("status"))


def _count(n_rows: int, n_complete: int, statuses: dict[str, int]) -> dict[str, int]:
    counts = {"read": n_rows} | {status: statuses.get(status, 0) for status in _STATUSES}
    return counts | {SUPERSEDED: n_complete - sum(statuses.values()), INCOMPLETE: n_rows - n_complete}


def _apply(rows: DataFrame, classified: DataFrame, is_kept: Column) -> DataFrame:
    """Add labels with a yes to kept rows, and remove labels with a no."""
    by_key = classified.groupBy("key").agg(
        *[F.collect_set(F.when(F.col("status") == answer, F.col("label"))).alias(f"_{answer}") for answer in (YES, NO)]
    )
    labels = F.array_sort(F.array_union(F.array_except("labels", f"_{NO}"), F.col(f"_{YES}")))
    is_corrected = is_kept & F.col(f"_{YES}").isNotNull()
    joined = rows.join(by_key, on="key", how="left")
    return joined.withColumn("labels", F.when(is_corrected, labels).otherwise(F.col("labels"))).select(*rows.columns)


def _log(counts: dict[str, int], classified: DataFrame, rows: DataFrame, is_kept: Column) -> None:
    logger.info(
        f"corrections: {counts[YES]} labels added, {counts[NO]} removed, {counts[WITHOUT_EFFECT]} without effect"
    )
    for status, meaning in _WARNINGS.items():
        if counts[status]:
            names = f": {_unknown_labels(classified, rows, is_kept)}" if status == UNKNOWN_LABEL else ""
            logger.warning(f"{counts[status]} corrections {meaning}{names}")


def _taxonomy(rows: DataFrame, is_kept: Column) -> DataFrame:
    """Return each label of a kept row once."""
    return rows.where(is_kept).select(F.explode("labels").alias("label")).distinct()


def _unknown_labels(classified: DataFrame, rows: DataFrame, is_kept: Column) -> str:
    """Name some labels that no company has, with similar ones; a long one may be any text and is not shown."""
    unknown = classified.where(F.col("status") == UNKNOWN_LABEL).groupBy("label").count()
    found = [row["label"] for row in unknown.orderBy(F.desc("count"), "label").limit(_MAX_NAMED).collect()]
    known = [row["label"] for row in _taxonomy(rows, is_kept).collect()]
    hints = {label: did_you_mean(label, known) for label in found if len(label) <= _MAX_NAMED_CHARACTERS}
    shown = {label: f"{label!r} ({hint})" if hint else repr(label) for label, hint in hints.items()}
    return ", ".join(shown.get(label, "(a long text)") for label in found)
