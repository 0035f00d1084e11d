"""Keep our tables small: remove what is too old, join small files, and remove files that nothing needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field, ValidationInfo, field_validator
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ptec_udf.config import WarehouseConfig
from ptec_udf.log import logger
from ptec_udf.nightly.runs import COMMAND, DONE
from ptec_udf.section import Section
from ptec_udf.warehouse.files import list_files
from ptec_udf.warehouse.retries import with_retries
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.tables import Warehouse

WEEK_HOURS = 168
"""Delta's own retention: a shorter one may take files from a night or a reader that is at work."""

_OF_VACUUM = {
    # Two versions more of each table, and one of corrections is a night's work.
    "spark.databricks.delta.vacuum.logging.enabled": "false",
    # Else it goes by a property of the table, which is the site's or Delta's default, and not by the hours it is given,
    "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
    # or refuses fewer than that.
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
}


class KeepDays(Section):
    """How old rows may become."""

    score_changes: int | None = Field(None, ge=1, description="why companies entered and left labels; null: for ever")
    drift: int | None = Field(None, ge=1, description="what drift measured; null: for ever")
    runs: int | None = Field(None, ge=1, description="what runs did, but for what later nights look up; null: for ever")
    scores: int | None = Field(
        None,
        ge=1,
        description="scores of models that no alias has pointed to for so long, nor a night used; null: for ever",
    )

    @field_validator("runs")
    @classmethod
    def _changes_go_first(cls, runs: int | None, info: ValidationInfo) -> int | None:
        changes = info.data.get("score_changes")
        if runs is not None and (changes is None or changes > runs):
            raise ValueError(
                "must be null or at least keep_days.score_changes, which must not be null then: changes are shown with "
                f"the runs that found them, and keep_days.score_changes is {'null' if changes is None else changes}"
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
        description="remove files that no version of the last so many hours needs; null: none",
    )
    dry_run: bool = Field(False, description="count the rows that would be removed, and change nothing")


def housekeep(warehouse: Warehouse, config: HousekeepingConfig) -> list[dict[str, Any]]:
    """Remove rows, join files, remove files.

    Nights may go on beside it: a commit that meets another one is tried again. Each step may be killed and done again.

    Returns:
        A row for each table: rows that were removed, and files and megabytes before and after, of its newest version
        and in its folder.
    """
    now, rows = datetime.now(UTC), []
    conditions = dict(_too_old(warehouse, config.keep_days, now))
    for table in SCHEMAS:
        before, condition = _size(warehouse, table), conditions.get(table)
        n_rows = 0 if condition is None else warehouse.read(table).where(condition).count()
        if table == "scores" and config.keep_days.scores is not None:
            n_rows = _remove_unused(warehouse, now - timedelta(days=config.keep_days.scores), config.dry_run)
        if not config.dry_run:
            if condition is not None and n_rows:
                warehouse.delete(table, condition)
            _tidy(warehouse, table, config)
        row: dict[str, Any] = {"table": table, "rows_removed": n_rows}
        after = before if config.dry_run else _size(warehouse, table)
        row |= {
            f"{name}_{when}": size[name] for name in before for when, size in (("before", before), ("after", after))
        }
        if config.dry_run:
            logger.info(f"{table}: {n_rows} rows would be removed")
        else:
            logger.info(
                f"{table}: {n_rows} rows removed; {after['files']} files in use, {after['files_on_disk']} on disk"
            )
        rows.append(row)
    return rows


def _too_old(warehouse: Warehouse, keep: KeepDays, now: datetime) -> Iterator[tuple[str, Column]]:
    """Say of each table that has a limit which of its rows are over it."""

    def before(days: int) -> Column:
        return F.lit(now - timedelta(days=days))

    if keep.score_changes is not None:
        yield "score_changes", F.col("changed_at") < before(keep.score_changes)
    if keep.drift is not None:
        yield "drift", F.col("measured_at") < before(keep.drift)
    if keep.runs is not None:
        yield "runs", (F.col("ended") < before(keep.runs)) & ~F.col("run_id").isin(_runs_needed(warehouse))


def _remove_unused(warehouse: Warehouse, since: datetime, dry_run: bool) -> int:
    """Remove scores of models that are out of use since a moment, or count them."""
    n_rows = 0
    for model_id in _unused_models(warehouse, since):
        of_model = F.col("model_id") == F.lit(model_id)
        n_rows += warehouse.read("scores").where(of_model).count()
        if not dry_run:
            warehouse.delete("scores", of_model)
    return n_rows


def _runs_needed(warehouse: Warehouse) -> list[str]:
    """Return runs that later nights look up.

    Those of the newest source version that a model has seen, and its last one: a night that scores this version once
    more gets a name of its own only as long as these stand. And those that scores name, which would else be taken for
    nights that were killed.
    """
    done = _done_nights(warehouse)
    newest = Window.partitionBy("model_id", "source_id").orderBy(F.desc("source_version"))
    last = Window.partitionBy("model_id", "alias").orderBy(F.desc("started"))
    ranked = done.withColumn("newest", F.rank().over(newest)).withColumn("last", F.rank().over(last))
    needed = ranked.where((F.col("newest") == 1) | (F.col("last") == 1)).select("run_id")
    rows = needed.union(warehouse.read("scores").select("run_id")).distinct().collect()
    return [row["run_id"] for row in rows if row["run_id"]]


def _done_nights(warehouse: Warehouse) -> DataFrame:
    """Return runs that wrote scores."""
    return warehouse.read("runs").where((F.col("command") == COMMAND) & (F.col("outcome") == DONE))


def _unused_models(warehouse: Warehouse, since: datetime) -> list[str]:
    """Return models that no alias points to, and that none has pointed to, nor a night scored with, since a moment.

    Nor those that an alias' last night scored with: its next one tells moves from them.
    """
    moves = warehouse.read("aliases")
    newest = {
        row["model_id"] for row in moves.groupBy("alias").agg(F.max_by("model_id", "at").alias("model_id")).collect()
    }
    left = moves.where((F.col("at") >= F.lit(since)) & F.col("previous").isNotNull()).select("previous")
    ended = warehouse.read("runs").where(F.col("ended") >= F.lit(since)).select("model_id")
    # By killed nights too.
    scored = warehouse.read("scores").where(F.col("scored_at") >= F.lit(since)).select("model_id")
    last = _done_nights(warehouse).where(F.col("alias").isNotNull()).groupBy("alias")
    shown = last.agg(F.max_by("model_id", "started").alias("model_id")).select("model_id")
    used = newest | {row[0] for row in left.union(ended).union(scored).union(shown).distinct().collect()}
    known = warehouse.read("scores").select("model_id").distinct().collect()
    return [row["model_id"] for row in known if row["model_id"] not in used]


def _tidy(warehouse: Warehouse, table: str, config: HousekeepingConfig) -> None:
    """Join small files, and remove those that no version within the retention needs."""
    spark, name = warehouse.spark, warehouse.name(table)
    if config.optimize and table != "corrections":  # a version of it is a night's work, and it is small
        with_retries(lambda: spark.sql(f"OPTIMIZE {name}").collect())
    if config.vacuum_hours is not None:
        with _settings(spark, _OF_VACUUM):
            spark.sql(f"VACUUM {name} RETAIN {config.vacuum_hours} HOURS").collect()


@contextmanager
def _settings(spark: SparkSession, values: Mapping[str, str]) -> Iterator[None]:
    """Let a session have other settings for a while."""
    before = {name: spark.conf.get(name, None) for name in values}
    for name, value in values.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, value_before in before.items():
            if value_before is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value_before)


def _size(warehouse: Warehouse, table: str) -> dict[str, Any]:
    """Measure the files of a table's newest version, and all data files in its folder."""
    detail = warehouse.spark.sql(f"DESCRIBE DETAIL {warehouse.name(table)}").first()
    assert detail is not None
    on_disk = list_files(warehouse.spark, detail["location"]) or []
    return {
        "files": detail["numFiles"],
        "mb": round(detail["sizeInBytes"] / 1e6, 3),
        "files_on_disk": len(on_disk),
        "mb_on_disk": round(sum(size for _, size, _ in on_disk) / 1e6, 3),
    }
