"""Analysts' corrections: the newest yes or no of each company and label, applied to the labels of an extract.

All corrections are counted by status. None stops an extract, since anyone may write a row.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ptec_udf.errors import ConfigError, did_you_mean
from ptec_udf.log import logger
from ptec_udf.text.columns import clean
from ptec_udf.warehouse.corrections import is_complete, newest_corrections
from ptec_udf.warehouse.schemas import schema_errors
from ptec_udf.warehouse.tables import Warehouse

TABLE = "corrections"
YES, NO, WITHOUT_EFFECT = "yes", "no", "without_effect"

_WARNINGS = {
    "incomplete": "have no key, label, is_true or at",
    "unknown_key": "are of companies that are not in the extract",
    "unknown_label": "are of labels that no company has",
    "unlabelled": "are of companies without labels, whose other labels are unknown",
}
_MAX_NAMED = 10
_MAX_SHOWN_CHARACTERS = 40


def apply_corrections(rows: DataFrame, warehouse: Warehouse) -> tuple[DataFrame, dict[str, Any]]:
    """Apply the newest corrections to the labels (null: not labelled) of rows with distinct keys.

    Return also the record: table, version (null without a table) and corrections by status. May raise a ConfigError.
    """
    record: dict[str, Any] = {"table": f"{warehouse.database}.{TABLE}", "version": None, "counts": {}}
    if not warehouse.spark.catalog.tableExists(warehouse.name(TABLE)):
        return rows, record
    record["version"] = warehouse.version(TABLE)
    table = warehouse.read(TABLE, record["version"])
    if errors := schema_errors(TABLE, table.schema):
        raise ConfigError([f"database {warehouse.database}: {error}" for error in errors])
    taxonomy = [row["label"] for row in rows.select(F.explode("labels").alias("label")).distinct().collect()]
    table = table.withColumn("label", clean(F.col("label")))
    classified = _classify(newest_corrections(table), rows, taxonomy)
    by_status = {row["status"]: row["count"] for row in classified.groupBy("status").count().collect()}
    [(n_rows, n_complete)] = table.agg(F.count("*"), F.count_if(is_complete())).collect()
    counts = {"read": n_rows, **dict.fromkeys((YES, NO, WITHOUT_EFFECT, *_WARNINGS), 0), **by_status}
    counts |= {"incomplete": n_rows - n_complete, "superseded": n_complete - sum(by_status.values())}
    for status, meaning in _WARNINGS.items():
        if counts[status]:
            names = f": {_unknown_labels(classified, taxonomy)}" if status == "unknown_label" else ""
            logger.warning(f"{counts[status]} corrections {meaning}{names}")
    return _correct(rows, classified), record | {"counts": counts}


def _classify(newest: DataFrame, rows: DataFrame, taxonomy: list[str]) -> DataFrame:
    status = (
        F.when(F.col("is_in_extract").isNull(), "unknown_key")
        .when(~F.col("label").isin(taxonomy), "unknown_label")
        .when(F.col("labels").isNull(), "unlabelled")
        .when(F.array_contains("labels", F.col("label")) == F.col("is_true"), WITHOUT_EFFECT)
        .when(F.col("is_true"), YES)
        .otherwise(NO)
    )
    companies = rows.select("key", "labels", F.lit(True).alias("is_in_extract"))
    return newest.join(companies, on="key", how="left").select("key", "label", status.alias("status"))


def _correct(rows: DataFrame, classified: DataFrame) -> DataFrame:
    by_key = classified.groupBy("key").agg(
        *[F.collect_set(F.when(F.col("status") == answer, F.col("label"))).alias(f"_{answer}") for answer in (YES, NO)]
    )
    corrected = F.array_sort(F.array_union(F.array_except("labels", f"_{NO}"), F.col(f"_{YES}")))
    labels = F.when(F.col(f"_{YES}").isNotNull(), corrected).otherwise(F.col("labels"))
    return rows.join(by_key, on="key", how="left").withColumn("labels", labels).select(*rows.columns)


def _unknown_labels(classified: DataFrame, taxonomy: list[str]) -> str:
    """Name some labels that no company has, with similar ones; a long one may be any text and is not shown."""
    unknown = classified.where((F.col("status") == "unknown_label") & (F.length("label") <= _MAX_SHOWN_CHARACTERS))
    found = unknown.select("label").distinct().orderBy("label").limit(_MAX_NAMED).collect()
    hints = {row["label"]: did_you_mean(row["label"], taxonomy) for row in found}
    return ", ".join(f"{label!r} ({hint})" if hint else repr(label) for label, hint in hints.items()) or "long texts"
