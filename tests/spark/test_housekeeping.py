"""Housekeeping removes old rows and files; current scores stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ptec_udf.monitor.housekeeping import HousekeepingConfig, housekeep
from ptec_udf.warehouse.schemas import SCHEMAS
from tests.site import load_config
from tests.spark.support import Site, companies

ROWS_ONLY = ("optimize=false", "vacuum=false")  # files take most of the time


def keep(site: Site, *overrides: str) -> dict[str, dict[str, Any]]:
    config = load_config(HousekeepingConfig, None, overrides)
    return {row["table"]: row for row in housekeep(site.warehouse, config)}


def age(site: Site, table: str, column: str, where: str = "true") -> None:
    site.spark.sql(f"UPDATE {site.warehouse.name(table)} SET {column} = {column} - INTERVAL 400 DAYS WHERE {where}")


def files_of(site: Site, table: str) -> int:
    (detail,) = site.spark.sql(f"DESCRIBE DETAIL {site.warehouse.name(table)}").collect()
    return len(list(Path(detail["location"].removeprefix("file:")).rglob("part-*.parquet")))


@pytest.mark.long
class TestFiles:
    def test_are_joined_and_vacuumed_without_a_change_of_rows(self, scored: Site) -> None:
        for table in ("scores", "corrections"):
            scored.sql(f"ALTER TABLE {{db}}.{table} SET TBLPROPERTIES (delta.deletedFileRetentionDuration = '0 hours')")
        scored.correct(("c0001", "media", True))
        scored.write(companies(21))
        scored.run()
        before = {table: scored.rows(table) for table in ("scores", "score_changes", "runs", "labels")}
        n_files = files_of(scored, "scores")
        version = scored.warehouse.version("corrections")
        found = keep(scored)
        assert {table: scored.rows(table) for table in before} == before
        assert all(row["rows_removed"] == 0 for row in found.values())
        assert found["runs"]["files"] == 1
        assert files_of(scored, "scores") == found["scores"]["files"] < n_files
        assert scored.warehouse.version("corrections") == version  # another one would cause a run
        assert scored.run()["outcome"] == "nothing_to_do"


class TestRows:
    def test_that_are_old_are_counted_by_a_dry_run_and_then_removed(self, scored: Site) -> None:
        age(scored, "score_changes", "changed_at")
        before = {table: scored.warehouse.version(table) for table in SCHEMAS}
        n_rows = len(scored.rows("score_changes"))
        found = keep(scored, "keep_days.score_changes=30", "dry_run=true")
        assert found["score_changes"]["rows_removed"] == n_rows > 0
        assert {table: scored.warehouse.version(table) for table in before} == before
        assert keep(scored, "keep_days.score_changes=30", *ROWS_ONLY)["score_changes"]["rows_removed"] == n_rows
        assert scored.rows("score_changes") == []
        assert scored.run()["outcome"] == "nothing_to_do"

    @pytest.mark.long
    def test_of_models_out_of_use_go(self, scored: Site) -> None:
        shadow = scored.model(2)
        scored.run(f"model.id={shadow}")
        limit = ("keep_days.scores=30", *ROWS_ONLY)
        age(scored, "aliases", "at")
        assert keep(scored, *limit)["scores"]["rows_removed"] == 0  # a run used it
        age(scored, "runs", "ended", f"model_id = '{shadow}'")
        age(scored, "scores", "scored_at", f"model_id = '{shadow}'")
        removed = keep(scored, *limit)["scores"]["rows_removed"]
        assert removed == 30
        assert shadow not in {row["model_id"] for row in scored.warehouse.read("scores").collect()}
        assert scored.run(f"model.id={shadow}")["counts"] == {"ok": 30}

    @pytest.mark.long
    def test_that_explain_a_promotion_stay(self, scored: Site) -> None:
        (first,) = {row["model_id"] for row in scored.warehouse.read("scores").collect()}
        scored.champion(1)
        for table, column in (("aliases", "at"), ("runs", "ended"), ("scores", "scored_at")):
            age(scored, table, column)
        assert keep(scored, "keep_days.scores=30", *ROWS_ONLY)["scores"]["rows_removed"] == 0
        run = scored.run()
        changes = scored.warehouse.read("score_changes").where(f"run_id = '{run['run_id']}'").collect()
        assert {(row["reason"], row["previous_model_id"]) for row in changes} == {("model", first)}
