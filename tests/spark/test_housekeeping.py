"""Housekeeping removes what is too old and nothing that a later night needs; what it leaves is what stood before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError
from ptec_udf.monitor.housekeeping import HousekeepingConfig, housekeep
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.support import Site, companies


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    made = Site(warehouse, tmp_path, ["drift.measure=true"])
    made.write(companies(20))
    return made


# Of rows alone; files take most of the time.
ROWS_ONLY = ("optimize=false", "vacuum_hours=null")


def keep(site: Site, *overrides: str) -> dict[str, dict[str, Any]]:
    config = load_config(HousekeepingConfig, None, overrides)
    return {row["table"]: row for row in housekeep(site.warehouse, config)}


def tables(site: Site) -> dict[str, list[Any]]:
    return {table: site.rows(table) for table in ("scores", "score_changes", "runs", "drift", "labels")}


def age(site: Site, table: str, column: str, where: str) -> None:
    site.spark.sql(f"UPDATE {site.warehouse.name(table)} SET {column} = {column} - INTERVAL 400 DAYS WHERE {where}")


def test_by_default_rows_stay_and_files_are_joined(site: Site) -> None:
    site.champion()
    for at in range(3):
        site.write(companies(20 + at))
        site.night()
    before = tables(site)
    found = keep(site)
    assert tables(site) == before
    assert all(row["rows_removed"] == 0 for row in found.values())
    assert found["runs"]["files_before"] > found["runs"]["files_after"] == 1
    assert found["scores"]["files_on_disk_after"] > found["scores"]["files_after"]  # none is so old as to go
    assert site.night()["outcome"] == "nothing_to_do"


def test_files_that_no_version_within_the_retention_needs_go(site: Site) -> None:
    site.champion()
    for at in range(2):
        site.correct((f"c000{at}", "media", True))
        site.write(companies(20 + at))
        site.night()
    before = tables(site)
    check = "spark.databricks.delta.retentionDurationCheck.enabled"
    checked = site.spark.conf.get(check)
    settings = load_config(HousekeepingConfig, None, []).model_copy(update={"vacuum_hours": 0})
    found = {row["table"]: row for row in housekeep(site.warehouse, settings)}
    assert site.spark.conf.get(check) == checked == "true"
    assert tables(site) == before
    assert found["scores"]["files_on_disk_before"] > found["scores"]["files_on_disk_after"]
    assert found["scores"]["files_on_disk_after"] == found["scores"]["files_after"]
    assert found["corrections"]["files_before"] == found["corrections"]["files_after"] == 2  # none of them is joined
    assert site.night()["outcome"] == "nothing_to_do"


@pytest.mark.parametrize("hours", [0, 24 * 20])
def test_files_stay_as_long_as_is_configured_whatever_their_table_says(site: Site, hours: int) -> None:
    site.champion()
    for at in range(2):
        site.write(companies(20 + at))
        site.night()
    kept = f"'delta.deletedFileRetentionDuration' = 'interval {hours} hours'"
    site.spark.sql(f"ALTER TABLE {site.warehouse.name('scores')} SET TBLPROPERTIES ({kept})")
    before, after = keep(site, "vacuum_hours=null")["scores"], keep(site)["scores"]
    assert before["files_on_disk_after"] == after["files_on_disk_after"] > after["files_after"]


def test_a_dry_run_counts_rows_and_changes_nothing(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.champion()
    site.night()
    age(site, "score_changes", "changed_at", "true")
    before = {table: site.warehouse.version(table) for table in ("score_changes", "runs", "scores")}
    capsys.readouterr()
    found = keep(site, "keep_days.score_changes=30", "dry_run=true")
    assert "rows removed" not in capsys.readouterr().err
    assert found["score_changes"]["rows_removed"] == len(site.rows("score_changes")) > 0
    assert {table: site.warehouse.version(table) for table in before} == before


@pytest.mark.long
def test_old_rows_go_and_the_runs_that_later_nights_look_up_stay(site: Site) -> None:
    site.champion()
    nights = []
    for about in ("of one night", "of the next", "of the last"):
        (key, name, _), *others = companies(20)
        site.write([(key, name, about), *others])
        nights.append(site.night()["run_id"])
    for table, column in (("score_changes", "changed_at"), ("runs", "ended"), ("drift", "measured_at")):
        age(site, table, column, "true")
    # The newest row of all is one of a failure: no night is done by it.
    failed = (
        site.warehouse.read("runs")
        .where(f"run_id = '{nights[1]}'")
        .selectExpr("* EXCEPT (outcome, ended)", "'failed' AS outcome", "ended + INTERVAL 1 DAY AS ended")
    )
    site.warehouse.append("runs", failed)
    found = keep(site, "keep_days={score_changes: 30, runs: 60, drift: 90}", *ROWS_ONLY)
    assert found["runs"]["rows_removed"] == 2
    first, _, last = nights  # what the second one scored was scored again, so that nothing names it
    assert {row["run_id"] for row in site.warehouse.read("runs").collect()} == {first, last}
    assert (site.rows("score_changes"), site.rows("drift")) == ([], [])
    assert site.night()["outcome"] == "nothing_to_do"
    again = site.night("run.retry_errors=true")
    assert again["run_id"] not in nights
    site.write(companies(21))
    assert site.night()["outcome"] == "done"
    done = [row["run_id"] for row in site.warehouse.read("runs").collect() if row["outcome"] == "done"]
    assert len(done) == len(set(done)) == 4  # none comes back as one that was killed


def test_scores_that_the_next_night_of_a_moved_alias_tells_moves_from_stay(site: Site) -> None:
    first = site.champion(0)
    site.night()
    site.champion(1)
    for table, column in (("aliases", "at"), ("runs", "ended"), ("scores", "scored_at")):
        age(site, table, column, "true")
    assert keep(site, "keep_days.scores=30", *ROWS_ONLY)["scores"]["rows_removed"] == 0
    result = site.night()
    told = site.warehouse.read("score_changes").where(f"run_id = '{result['run_id']}'").collect()
    assert {(row["reason"], row["previous_model_id"]) for row in told} == {("model", first)}


@pytest.mark.long
def test_scores_of_models_that_are_long_out_of_use_go(site: Site) -> None:
    first = site.champion(0)
    site.night()
    second = site.model(1)
    registry.promote(site.warehouse, second, alias="champion", who="test", why="", check=lambda *_: None)
    site.night()
    shadow = site.model(2)
    site.night(f"model.id={shadow}")
    limit = ("keep_days.scores=30", *ROWS_ONLY)
    assert keep(site, *limit)["scores"]["rows_removed"] == 0
    age(site, "aliases", "at", f"model_id = '{second}'")
    age(site, "aliases", "at", f"model_id = '{first}'")
    assert keep(site, *limit)["scores"]["rows_removed"] == 0  # nights have scored with them
    age(site, "runs", "ended", "true")
    assert keep(site, *limit)["scores"]["rows_removed"] == 0  # a night that was killed has scores and no run
    age(site, "scores", "scored_at", "true")
    assert keep(site, *limit)["scores"]["rows_removed"] == 60
    assert {row["model_id"] for row in site.warehouse.read("scores").collect()} == {second}
    assert site.night(f"model.id={shadow}")["counts"] == {"ok": 30}  # not "nothing to do", although its run stands


def test_changes_without_their_runs_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"keep_days\.runs: must be null or at least keep_days\.score_changes"):
        load_config(HousekeepingConfig, None, ["keep_days.runs=30"])
    with pytest.raises(ConfigError, match=r"and keep_days\.score_changes is 60"):
        load_config(HousekeepingConfig, None, ["keep_days={runs: 30, score_changes: 60}"])


def test_files_that_a_night_may_read_are_not_to_be_removed() -> None:
    with pytest.raises(ConfigError, match="vacuum_hours"):
        load_config(HousekeepingConfig, None, ["vacuum_hours=24"])
