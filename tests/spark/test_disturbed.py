"""Nights that others disturb: two at once, a kill after MERGE, a source that is put back, a swapped artifact."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JNetworkError
from pyspark.sql import functions as F

from ptec_udf.errors import ArtifactError, ConfigError, HeldError, PtecError
from ptec_udf.nightly import run as score_module
from ptec_udf.nightly.runs import History, RunRecord
from tests.spark.nights import Site, before_writing, changed_companies, companies, kill_after_merge
from tests.tiny import LABELS, tiny_artifact


def test_a_second_night_at_once_is_refused_with_the_name_of_the_first(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.champion()
    refused = []

    def night_beside() -> None:
        with pytest.raises(HeldError) as raised:
            site.night()
        refused.append(str(raised.value))

    before_writing(monkeypatch, night_beside)
    result = site.night()
    assert (result["outcome"], result["counts"]) == ("done", {"ok": 30})
    assert refused == [f"run {result['run_id']} holds alias champion; start again when it has ended"]
    assert site.night()["outcome"] == "nothing_to_do"


def test_a_view_that_changes_while_a_night_is_at_work_is_compared_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = f"{site.warehouse.database}.seen"
    site.spark.sql(f"CREATE VIEW {view} AS SELECT * FROM {site.table}")
    site.champion()
    before_writing(monkeypatch, lambda: site.write(companies(20)[:3]))
    assert site.night(f"source.table={view}")["counts"] == {"ok": 30}
    assert len(site.scores()) == 30


def let_go_first(another: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen while the next night waits for its hold."""
    held, todo = score_module.held, [another]

    def waited(*args: Any) -> Any:
        if todo:
            todo.pop()()
        return held(*args)

    monkeypatch.setattr(score_module, "held", waited)


@pytest.mark.long
def test_a_night_that_waited_takes_the_source_as_it_then_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.champion()

    def another() -> None:
        site.write(changed_companies()[:20])
        assert site.night()["source_version"] == 1

    let_go_first(another, monkeypatch)
    assert (site.night()["outcome"], site.night()["outcome"]) == ("nothing_to_do", "nothing_to_do")
    assert {row["source_version"] for row in site.scores().values()} == {1}


def test_a_night_whose_alias_was_moved_while_it_waited_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.champion()

    def another() -> None:
        site.champion(1)
        assert site.night()["outcome"] == "done"

    let_go_first(another, monkeypatch)
    with pytest.raises(HeldError, match=r"alias champion was moved to model .* waited; start it again"):
        site.night()
    assert len(site.rows("runs")) == 1


def test_columns_of_somebody_else_stay_as_they_are(site: Site) -> None:
    kept = ("c0000", "c0001", "c0005")  # one that changes, one that stays and one that goes
    site.champion()
    site.spark.sql(f"ALTER TABLE {site.warehouse.name('scores')} ADD COLUMN note STRING")
    assert site.night()["outcome"] == "done"
    site.spark.sql(f"UPDATE {site.warehouse.name('scores')} SET note = 'ours' WHERE key IN {kept}")
    site.write(changed_companies()[:20])
    assert site.night()["outcome"] == "done"
    assert {key for key, row in site.scores().items() if row["note"]} == set(kept)


@pytest.mark.long
def test_correction_after_a_kill_leaves_what_a_night_of_removals_alone_explained(site: Site) -> None:
    site.champion()
    site.night()
    site.write(companies(20)[5:])
    kill_after_merge(site)
    explained = site.rows("score_changes")
    site.correct(("c0010", "media", True))
    assert site.night()["counts"] == {"removed": 5}
    assert site.rows("score_changes") == explained
    assert site.night()["counts"] == {"ok": 1}


def test_a_source_that_was_put_back_is_refused(site: Site) -> None:
    site.champion()
    log = Path(site.spark.sql(f"DESCRIBE DETAIL {site.table}").first()["location"].removeprefix("file:"), "_delta_log")
    site.write(changed_companies()[:20])
    site.night()
    scores = site.rows("scores")
    for file in log.glob("*1.*"):
        file.unlink()
    site.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    with pytest.raises(ConfigError, match="stands at version 0, and version 1 of it was scored"):
        site.night()
    assert site.rows("scores") == scores


@pytest.mark.long
def test_correction_after_a_kill_leaves_the_killed_nights_changes(site: Site) -> None:
    site.champion()
    site.night()
    site.write(changed_companies()[:20])
    kill_after_merge(site)
    explained = site.rows("score_changes")
    row = site.scores()["c0010"]
    label = "media"
    is_true = label not in row["labels"]
    site.correct(("c0010", label, is_true))
    assert site.night()["outcome"] == "done"
    assert site.rows("score_changes") == explained
    assert site.night()["counts"] == {"ok": 1}
    (change,) = [row for row in site.rows("score_changes") if row not in explained]
    assert {"c0010", label, "correction"} <= set(change)
    assert (label in site.scores()["c0010"]["labels"]) is is_true
    assert site.night()["outcome"] == "nothing_to_do"


@pytest.mark.long
def test_killed_retry_keeps_its_changes(site: Site) -> None:
    site.champion()
    site.write([("d", "x", "1"), ("d", "y", "2"), *companies(20)])
    site.night()
    site.spark.sql(
        f"UPDATE {site.warehouse.name('scores')} SET status = 'error', logits = NULL, probabilities = NULL, "
        "labels = CAST(array() AS array<string>) WHERE key <> 'd'"
    )
    kill_after_merge(site, "retry_errors=true")
    changes = site.rows("score_changes")
    result = site.night("retry_errors=true")
    assert site.rows("score_changes") == changes
    assert (result["counts"], result["skipped"]) == ({"ok": 30, "error": 1}, 0)
    # They had no score before, so neither text nor threshold let them in.
    assert {row["reason"] for row in site.warehouse.read("score_changes").collect()} == {"new"}


@pytest.mark.long
def test_retry_after_a_killed_night_leaves_that_nights_changes(site: Site) -> None:
    site.champion()
    site.write([("d", "x", "1"), ("d", "y", "2"), *companies(20)])
    kill_after_merge(site)
    changes = site.rows("score_changes")
    assert changes
    site.night("retry_errors=true")
    assert [row for row in site.rows("score_changes") if row in changes] == changes
    runs = site.spark.table(site.warehouse.name("run_summary")).orderBy("started").collect()
    assert [(row["outcome"], row["companies"]) for row in runs] == [("done", 31), ("done", 1)]


def test_night_whose_spark_is_gone_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.champion()

    def gone(*args: Any, **kwargs: Any) -> None:
        raise ConnectionRefusedError

    def dies(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(RunRecord, "write", gone)
        raise Py4JNetworkError

    monkeypatch.setattr(score_module, "_run", dies)
    with pytest.raises(PtecError, match="a rerun goes on where it stopped"):
        site.night()


@pytest.mark.long
def test_parquet_folder_that_is_put_back_gives_its_old_scores_again(site: Site, tmp_path: Path) -> None:
    site.champion()
    folder, kept = tmp_path / "companies", tmp_path / "kept"
    source = ("source.table=null", f"source.path={folder}")
    schema = "key string, name string, about string"

    def put(about: str) -> dict[str, Any]:
        site.spark.createDataFrame([("a", "n", about)], schema).coalesce(1).write.mode("overwrite").parquet(str(folder))
        site.night(*source)
        return site.scores()["a"]

    first = put("solar parks")
    shutil.copytree(folder, kept)
    assert put("a bank")["text_hash"] != first["text_hash"]
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    assert site.night(*source)["counts"] == {"ok": 1}
    again = site.scores()["a"]
    assert (again["text_hash"], again["source_version"]) == (first["text_hash"], 2)

    site.spark.createDataFrame([("a", "n", "a bank")], schema).coalesce(1).write.mode("overwrite").parquet(str(folder))
    kill_after_merge(site, *source)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    site.correct(("a", "media", True))
    assert site.night(*source)["counts"] == {"ok": 1}
    again = site.scores()["a"]
    assert (again["text_hash"], "media" in again["labels"]) == (first["text_hash"], True)


def test_artifact_that_another_one_was_put_over_is_refused(site: Site, tmp_path: Path) -> None:
    site.champion(0)
    location = Path(site.warehouse.read("models").first()["location"])
    shutil.copytree(tiny_artifact(tmp_path, "bert", "deep", seed=1), location, dirs_exist_ok=True)
    with pytest.raises(ArtifactError, match="must hold model"):
        site.night()


def test_challenger_shows_in_no_view_of_the_champion(site: Site) -> None:
    site.champion(0)
    challenger = site.model(1)
    site.night(f"model.id={challenger}")
    assert site.warehouse.read("score_changes").count() > 0
    for view in ("why_changed", "current_scores", "label_scores"):
        assert site.spark.table(site.warehouse.name(view)).count() == 0


def test_a_correction_that_is_deleted_gives_the_models_own_answer_back(scored: Site) -> None:
    before = scored.scores()["c0010"]["labels"]
    label = LABELS[0]
    scored.correct(("c0010", label, label not in before))
    scored.night()
    assert set(scored.scores()["c0010"]["labels"]) == set(before) ^ {label}
    scored.spark.sql(f"DELETE FROM {scored.warehouse.name('corrections')} WHERE key = 'c0010' AND label = '{label}'")
    result = scored.night()
    assert result["counts"] == {"ok": 1}
    assert scored.scores()["c0010"]["labels"] == before
    changes = scored.warehouse.read("score_changes").where(f"run_id = '{result['run_id']}'").collect()
    told = [(row["key"], row["label"], row["entered"], row["reason"]) for row in changes]
    assert told == [("c0010", label, label in before, "correction")]
    assert scored.night()["outcome"] == "nothing_to_do"


@pytest.mark.long
def test_corrected_key_column_is_something_to_do(site: Site) -> None:
    site.champion()
    site.night("source.key=name")
    assert site.night()["outcome"] == "done"


def test_scores_that_a_run_without_its_hold_writes_meanwhile_end_the_night(
    scored: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored.write(changed_companies()[:20])
    scored.write(changed_companies(20))
    (model_id,) = {row["model_id"] for row in scored.scores().values()}
    gone = scored.warehouse.read("scores").where("key = 'c0001'").withColumn("removed_in", F.lit(1))
    late = gone.withColumn("run_id", F.lit("late-1")).withColumn("source_version", F.lit(1))
    before_writing(monkeypatch, lambda: scored.warehouse.merge_scores(late, model_id))
    with pytest.raises(PtecError, match="run late-1 wrote scores of this model while"):
        scored.night()
    assert scored.scores()["c0000"]["source_version"] == 0
    assert scored.night()["outcome"] == "done"
    standing = {key for key, row in scored.scores().items() if row["removed_in"] is None}
    assert standing == {row[0] for row in changed_companies(20)}


def test_a_clock_that_was_ahead_once_makes_nothing_in_staging_old(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.champion()
    now = datetime.now(UTC)
    rows = [{"model_id": "another", "run_id": "r-1", "staged_at": now - timedelta(days=days)} for days in (1, 30)]
    site.warehouse.append_rows("score_staging", [rows[0], rows[1] | {"run_id": "r-0"}])
    monkeypatch.setattr(History, "after", lambda *_: now + timedelta(days=60))
    assert site.night()["outcome"] == "done"
    assert [row["run_id"] for row in site.warehouse.read("score_staging").collect()] == ["r-1"]
