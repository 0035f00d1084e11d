"""Housekeeping: remove old rows, join small files, remove files that no recent version needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pyspark.sql import Column, SparkSession, Window
from pyspark.sql import functions as F

from ptec_udf.config import WarehouseConfig
from ptec_udf.log import logger
from ptec_udf.nightly.runs import COMMAND, DONE
from ptec_udf.section import Section
from ptec_udf.warehouse.retries import with_retries
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.tables import Warehouse

WEEK_HOURS = 168
"""Delta's own retention: a shorter one may remove files that a run or a reader still needs."""

_VACUUM_SETTINGS = {
    "spark.databricks.delta.vacuum.logging.enabled": "false",  # two more versions of each table
    # Without these two the retention of the table's properties counts, and not the configured one.
    "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
}


class KeepDays(Section):
    """How old rows may become."""

    score_changes: int | None = Field(None, ge=1, description="days to keep score_changes; null: for ever")
    drift: int | None = Field(None, ge=1, description="days to keep drift; null: for ever")
    runs: int | None = Field(
        None, ge=1, description="days to keep runs, except those that later runs look up; null: for ever"
    )
    scores: int | None = Field(
        None, ge=1, description="days to keep scores of models without an alias or a run; null: for ever"
    )

    @field_validator("runs")
    @classmethod
    def _changes_go_first(cls, runs: int | None, info: ValidationInfo) -> int | None:
        changes = info.data.get("score_changes")
        if runs is not None and (changes is None or changes > runs):
            shown = "null" if changes is None else changes
            raise ValueError(
                "must be null or at least keep_days.score_changes, since views show changes with their runs; "
                f"keep_days.score_changes is {shown}"
            )
        return runs


class HousekeepingConfig(Section):
    """Configuration of ``ptec housekeeping``."""

    warehouse: WarehouseConfig = WarehouseConfig()
    keep_days: KeepDays = KeepDays()
    optimize: bool = Field(True, description="join small files of all tables but corrections")
    vacuum_hours: int | None = Field(
        WEEK_HOURS,
        ge=WEEK_HOURS,
        description="remove files that no version of this many last hours needs; null: none",
    )
    dry_run: bool = Field(False, description="count the rows that would be removed, and change nothing")


def housekeep(warehouse: Warehouse, config: HousekeepingConfig) -> list[dict[str, Any]]:
    """Remove rows, join files, remove files; safe while a run works, and after being killed.

    Returns:
        For each table its name, the rows removed, and the files and megabytes of its newest version.
    """
    conditions = _old_rows(warehouse, config.keep_days, datetime.now(UTC))
    return [_housekeep_table(warehouse, table, conditions.get(table), config) for table in SCHEMAS]


def _housekeep_table(
    warehouse: Warehouse, table: str, condition: Column | None, config: HousekeepingConfig
) -> dict[str, Any]:
    spark, name = warehouse.spark, warehouse.name(table)
    n_rows = 0 if condition is None else warehouse.read(table).where(condition).count()
    if not config.dry_run:
        if condition is not None and n_rows:
            warehouse.delete(table, condition)
        if config.optimize and table != "corrections":  # a new version of corrections causes a run
            with_retries(lambda: spark.sql(f"OPTIMIZE {name}").collect())
        if config.vacuum_hours is not None:
            with _settings(spark, _VACUUM_SETTINGS):
                spark.sql(f"VACUUM {name} RETAIN {config.vacuum_hours} HOURS").collect()
    detail = spark.sql(f"DESCRIBE DETAIL {name}").select("numFiles", "sizeInBytes").collect()[0]
    logger.info(f"{table}: {n_rows} rows {'to remove' if config.dry_run else 'removed'}, {detail[0]} files")
    return {"table": table, "rows_removed": n_rows, "files": detail[0], "mb": round(detail[1] / 1e6, 3)}


def _old_rows(warehouse: Warehouse, keep: KeepDays, now: datetime) -> dict[str, Column]:
    """Return for each table with a limit the condition of the rows to remove."""

    def before(days: int) -> Column:
        return F.lit(now - timedelta(days=days))

    conditions = {}
    if keep.score_changes is not None:
        conditions["score_changes"] = F.col("changed_at") < before(keep.score_changes)
    if keep.drift is not None:
        conditions["drift"] = F.col("measured_at") < before(keep.drift)
    if keep.runs is not None:
        conditions["runs"] = (F.col("ended") < before(keep.runs)) & ~F.col("run_id").isin(_needed_runs(warehouse))
    if keep.scores is not None:
        conditions["scores"] = F.col("model_id").isin(_unused_models(warehouse, now - timedelta(days=keep.scores)))
    return conditions


def _needed_runs(warehouse: Warehouse) -> list[str]:
    """Return the runs that later ones look up: of a model's newest source version, and its last one of each alias."""
    runs = warehouse.read("runs").where(F.col("command") == COMMAND)
    newest = Window.partitionBy("model_id", "source_id").orderBy(F.desc("source_version"))
    last = Window.partitionBy("model_id", "alias", "outcome").orderBy(F.desc("started"))
    ranked = runs.withColumn("newest", F.rank().over(newest)).withColumn("last", F.rank().over(last))
    needed = ranked.where((F.col("newest") == 1) | ((F.col("last") == 1) & (F.col("outcome") == DONE)))
    return [row["run_id"] for row in needed.select("run_id").distinct().collect()]


def _unused_models(warehouse: Warehouse, since: datetime) -> list[str]:
    """Return models with scores that no alias points to, and that neither an alias nor a run used since a moment."""
    moves, runs = warehouse.read("aliases"), warehouse.read("runs")
    scores, moment = warehouse.read("scores"), F.lit(since)
    used = [
        moves.groupBy("alias").agg(F.max_by("model_id", "at").alias("model_id")),
        moves.where(F.col("at") >= moment).select(F.col("previous").alias("model_id")),
        runs.where((F.col("ended") >= moment) | F.col("ended").isNull()),
        # The next run of an alias derives its changes from the scores of the last one.
        runs.where(F.col("outcome") == DONE).groupBy("alias").agg(F.max_by("model_id", "started").alias("model_id")),
        scores.where(F.col("scored_at") >= moment),
    ]
    known = scores.select("model_id").distinct()
    for frame in used:
        known = known.join(frame.select("model_id"), on="model_id", how="left_anti")
    return [row["model_id"] for row in known.collect()]


@contextmanager
def _settings(spark: SparkSession, values: Mapping[str, str]) -> Iterator[None]:
    """Change settings of a session for the block."""
    before = {name: spark.conf.get(name, None) for name in values}
    for name, value in values.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, old)
