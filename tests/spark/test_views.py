"""Views and the SQL function, as an analyst asks them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ptec_udf.warehouse import view_files
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.views import create_views

QUOTED = 'it\'s "a\\b" `Ж`'
EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(spark: SparkSession) -> Iterator[Warehouse]:
    """Two models, the second is champion; a company that left and one without text."""
    warehouse = Warehouse(spark, "test_views")
    warehouse.ensure()
    for model, names in (("old", ["Fintech"]), ("new", ["Fintech", QUOTED])):
        labels = [{"model_id": model, "position": at, "name": name, "threshold": 0.7} for at, name in enumerate(names)]
        warehouse.append("labels", labels)
    warehouse.append("models", [{"model_id": "old", "name": "v1"}, {"model_id": "new", "name": "v2"}])
    moves = [("champion", "old", EARLY), ("champion", "new", LATE), ("next", "old", LATE)]
    warehouse.append("aliases", [{"alias": alias, "model_id": model, "at": at} for alias, model, at in moves])
    scored = [("a", "new", [0.7, 0.2], None), ("b", "new", [0.3, 0.9], None), ("gone", "new", [0.9, 0.9], 3)]
    scored += [("empty", "new", None, None), ("a", "old", [0.9], None)]
    rows = [{"key": k, "model_id": m, "probabilities": p, "removed_in": gone} for k, m, p, gone in scored]
    warehouse.append("scores", rows)
    create_views(warehouse.spark, warehouse.database)
    yield warehouse
    spark.sql("DROP DATABASE test_views CASCADE")


def screened(warehouse: Warehouse, label: str, least: float | None) -> set[str]:
    """Companies that screen() gives."""
    query = f"SELECT key FROM {warehouse.name('screen')}(:label, :least)"
    return {row.key for row in warehouse.spark.sql(query, args={"label": label, "least": least}).collect()}


def test_only_companies_of_the_champion_that_are_still_there_are_current(filled: Warehouse) -> None:
    rows = filled.spark.table(filled.name("current_scores")).collect()
    assert sorted((row.key, row.model_id) for row in rows) == [("a", "new"), ("b", "new"), ("empty", "new")]


def test_label_scores_has_a_row_for_each_label_of_a_scored_company(filled: Warehouse) -> None:
    rows = filled.spark.table(filled.name("label_scores")).collect()
    found = {(row.key, row.label): (row.probability, row.at_or_over) for row in rows}
    assert found == {
        ("a", "Fintech"): (pytest.approx(0.7), True),
        ("a", QUOTED): (pytest.approx(0.2), False),
        ("b", "Fintech"): (pytest.approx(0.3), False),
        ("b", QUOTED): (pytest.approx(0.9), True),
    }


def test_screen_takes_the_threshold_or_a_probability(filled: Warehouse) -> None:
    assert screened(filled, "Fintech", None) == {"a"}
    assert screened(filled, "Fintech", 0.7) == {"a"}
    assert screened(filled, "Fintech", 0.3) == {"a", "b"}
    assert screened(filled, "Fintech", 0.71) == set()
    assert screened(filled, "nothing", 0.0) == set()


def test_a_label_may_hold_anything(filled: Warehouse) -> None:
    assert screened(filled, QUOTED, None) == {"b"}
    literal = QUOTED.replace("\\", "\\\\").replace("'", "\\'")
    row = filled.spark.sql(f"SELECT * FROM {filled.name('screen')}('{literal}', NULL)").first()
    assert (row.key, row.model_id, row.threshold) == ("b", "new", pytest.approx(0.7))


def test_why_changed_names_run_and_models_once(filled: Warehouse) -> None:
    change = {"run_id": "r1", "key": "a", "label": QUOTED, "entered": True, "reason": "model", "source_version": 7}
    change |= {"model_id": "new", "previous_model_id": "old", "old_probability": 0.25, "new_probability": 0.75}
    filled.append("score_changes", [change])
    for outcome, ended in (("failed", EARLY), ("done", LATE)):
        run = {"run_id": "r1", "outcome": outcome, "ended": ended, "source_name": "crm.companies"}
        filled.append("runs", [run | {"alias": "champion"}])
    filled.append("score_changes", [change | {"run_id": "r2"}])
    filled.append("runs", [run | {"run_id": "r2"}])  # of a challenger, which no screen shows
    (row,) = filled.spark.table(filled.name("why_changed")).collect()
    assert (row.label, row.entered, row.reason, row.source_version) == (QUOTED, True, "model", 7)
    assert (row.source_name, row.model, row.previous_model) == ("crm.companies", "v2", "v1")
    assert (row.old_probability, row.new_probability) == (0.25, 0.75)
    of_company = f"SELECT * FROM {filled.name('why_changed')}(:key)"
    (same,) = filled.spark.sql(of_company, args={"key": "a"}).collect()
    assert same.asDict() == {name: row[name] for name in same.asDict()}
    assert filled.spark.sql(of_company, args={"key": "b"}).count() == 0


def test_run_summary_adds_up_companies_and_seconds(filled: Warehouse) -> None:
    # Each column has a value of its own, or one could stand in another's place.
    run = {
        "run_id": "r3",
        "outcome": "done",
        "error": "none",
        "source_name": "crm.companies",
        "source_version": 7,
        "alias": "next",
        "model_id": "new",
        "counts": {"ok": 3, "empty": 2, "null_key": 4},
        "skipped": 11,
        "reused": 12,
        "tokens": 13,
        "padding": 0.125,
        "rows_per_second": 14.5,
        "dtype": "float32",
        "drifted": ["a figure"],
        "retrain": True,
        "started": EARLY,
    }
    ended = {"ended": LATE}
    failing = {"run_id": "r4", "outcome": "failed", "counts": {"error": 7}}
    filled.append("runs", [run | ended, run | ended | failing])
    summary = filled.spark.table(filled.name("run_summary"))
    row, failed = (summary.where(f"run_id = '{run_id}'").first() for run_id in ("r3", "r4"))
    told = row.asDict() | {"started": row.started.astimezone(UTC)}
    assert {name: told[name] for name in run} == run
    assert (row.model, row.companies, row.seconds) == ("v2", 5, 86400.0)
    assert (failed.companies, failed.counts) == (0, {"error": 7})  # its errors are told, nothing of it stands


def test_views_of_drift_show_what_was_measured(filled: Warehouse) -> None:
    measured = {"run_id": "d1", "model_id": "new", "population": "all", "measured_at": EARLY, "companies": 10}
    of_label = {"label": "Fintech", "companies": 9, "share": 0.1, "psi_training": 0.3, "psi_runs": 0.4}
    of_label |= {"violated": ["runs"]}
    figures = [
        {"figure": "probability", "mean": 0.2} | of_label,
        {"figure": "status", "counts": {"ok": 4, "empty": 1, "truncated": 2, "error": 3}},
        {"figure": "tokens", "mean": 33.5},
        {"figure": "mix", "mean": 1.25, "psi_training": 0.6, "psi_runs": 0.7},
    ]
    filled.append("drift", [measured | figure for figure in figures])
    done = {"run_id": "d1", "outcome": "done", "alias": "champion", "ended": LATE}
    filled.append("runs", [done | {"drifted": ["a figure"], "retrain": True}])

    (label,) = filled.spark.table(filled.name("label_drift")).collect()
    assert label.asDict() == of_label | {
        "started": label.started,
        "population": "all",
        "mean_probability": 0.2,
        "run_id": "d1",
        "model_id": "new",
    }
    (summary,) = filled.spark.table(filled.name("drift_summary")).collect()
    assert summary.asDict() == {
        "started": label.started,
        "population": "all",
        "companies": 10,
        "labels_per_company": 1.25,
        "tokens_per_text": 33.5,
        "empty": 0.1,
        "truncated": 0.2,
        "error": 0.3,
        "mix_psi_training": 0.6,
        "mix_psi_runs": 0.7,
        "drifted": ["a figure"],
        "retrain": True,
        "run_id": "d1",
        "model_id": "new",
    }
    assert label.started.astimezone(UTC) == EARLY


def test_views_are_created_again_if_their_text_changed(
    filled: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not create_views(filled.spark, filled.database)
    (tmp_path / "sql").mkdir()
    for file in (view_files.files("ptec_udf.warehouse") / "sql").iterdir():
        more = "-- changed\n" if file.name == "screen.sql" else ""
        (tmp_path / "sql" / file.name).write_text(more + file.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(view_files, "files", lambda _: tmp_path)
    assert create_views(filled.spark, filled.database)
    assert not create_views(filled.spark, filled.database)


def test_every_view_column_says_what_it_holds(spark: SparkSession, filled: Warehouse) -> None:
    for view in view_files.VIEWS:
        silent = [field.name for field in spark.table(filled.name(view)).schema if not field.metadata.get("comment")]
        assert silent == []
