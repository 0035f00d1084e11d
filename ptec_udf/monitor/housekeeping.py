"""Housekeeping: remove old rows, join small files, remove files that no recent version needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field
from pyspark.sql import Column
from pyspark.sql import functions as F

from ptec_udf.config import WarehouseConfig
from ptec_udf.log import logger
from ptec_udf.nightly.runs import DONE
from ptec_udf.section import Section
from ptec_udf.warehouse.retries import with_retries
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.tables import Warehouse


class KeepDays(Section):
    """How old rows may become."""

    score_changes: int | None = Field(None, ge=1, description="days to keep score_changes; null: for ever")
    drift: int | None = Field(None, ge=1, description="days to keep drift; null: for ever")
    scores: int | None = Field(
        None, ge=1, description="days to keep scores of models without an alias or a run; null: for ever"
    )


class HousekeepingConfig(Section):
    """Configuration of ``ptec housekeeping``."""

    warehouse: WarehouseConfig = WarehouseConfig()
    keep_days: KeepDays = KeepDays()
    optimize: bool = Field(True, description="join small files of all tables but corrections")
    vacuum: bool = Field(
        True,
        description="remove files that no recent version needs; the table property "
        "delta.deletedFileRetentionDuration says how recent, 7 days by default",
    )
    dry_run: bool = Field(False, description="count the rows that would be removed, and change nothing")


def housekeep(warehouse: Warehouse, config: HousekeepingConfig) -> list[dict[str, Any]]:
    """Remove rows, join files, remove files; safe while a run works, and after being killed.

    Return for each table its name, the rows removed, and the files and megabytes of its newest version.
    """
    # Vacuum's log entries are versions, and a new version of corrections causes a run.
    warehouse.spark.conf.set("spark.databricks.delta.vacuum.logging.enabled", "false")
    conditions = _old_rows(warehouse, config.keep_days)
    return [_housekeep_table(warehouse, table, conditions.get(table), config) for table in SCHEMAS]


def _housekeep_table(
    warehouse: Warehouse, table: str, condition: Column | None, config: HousekeepingConfig
) -> dict[str, Any]:
    spark, name = warehouse.spark, warehouse.name(table)
    n_rows = 0 if condition is None else warehouse.read(table).where(condition).count()
    if not config.dry_run:
        if condition is not None and n_rows:
            warehouse.delete(table, condition)
        if config.optimize and table != "corrections":
            with_retries(lambda: spark.sql(f"OPTIMIZE {name}").collect())
        if config.vacuum:
            spark.sql(f"VACUUM {name}").collect()
    n_files, n_bytes = spark.sql(f"DESCRIBE DETAIL {name}").select("numFiles", "sizeInBytes").collect()[0]
    logger.info(f"{table}: {n_rows} rows {'to remove' if config.dry_run else 'removed'}, {n_files} files")
    return {"table": table, "rows_removed": n_rows, "files": n_files, "mb": round(n_bytes / 1e6, 3)}


def _old_rows(warehouse: Warehouse, keep: KeepDays) -> dict[str, Column]:
    """Return for each table with a limit the condition of the rows to remove."""
    now, conditions = datetime.now(UTC), dict[str, Column]()
    if keep.score_changes is not None:
        conditions["score_changes"] = F.col("changed_at") < F.lit(now - timedelta(days=keep.score_changes))
    if keep.drift is not None:
        conditions["drift"] = F.col("measured_at") < F.lit(now - timedelta(days=keep.drift))
    if keep.scores is not None:
        conditions["scores"] = F.col("model_id").isin(_unused_models(warehouse, now - timedelta(days=keep.scores)))
    return conditions


def _unused_models(warehouse: Warehouse, since: datetime) -> list[str]:
    """Return models with scores that no alias points to, and that neither an alias nor a run used since a moment."""
    moves, runs = warehouse.read("aliases"), warehouse.read("runs")
    moment = F.lit(since)
    used = [
        moves.groupBy("alias").agg(F.max_by("model_id", "at").alias("model_id")),
        moves.where(F.col("at") >= moment).select(F.col("previous").alias("model_id")),
        runs.where((F.col("ended") >= moment) | F.col("ended").isNull()),
        # The next run of an alias derives its changes from the scores of the last one.
        runs.where((F.col("outcome") == DONE) & F.col("alias").isNotNull())
        .groupBy("alias")
        .agg(F.max_by("model_id", "started").alias("model_id")),
    ]
    known = warehouse.read("scores").select("model_id").distinct()
    for frame in used:
        known = known.join(frame.select("model_id"), on="model_id", how="left_anti")
    return [row["model_id"] for row in known.collect()]
