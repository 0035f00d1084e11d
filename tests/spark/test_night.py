"""The nightly flow on real Spark, Delta and a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from delta.exceptions import ConcurrentAppendException
from pyspark.sql import DataFrame

from ptec_udf.engine.scorer import Scorer
from ptec_udf.errors import PtecError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.nightly import stage as stage_module
from ptec_udf.nightly.plan import pin_night
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site, changed_companies, companies
from tests.tiny import tiny_artifact
from tests.tolerance import assert_logits_close


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def site(warehouse: Warehouse, models: Path) -> Site:
    made = Site(warehouse, models)
    made.write(companies())
    return made


def secret(*args: Any, **kwargs: Any) -> None:
    """Fail with words that may quote a company."""
    raise ValueError("text about a company")


def test_first_night_scores_every_company_and_equal_texts_once(site: Site) -> None:
    model_id = site.champion()
    result = site.night()
    assert (result["outcome"], result["counts"], result["reused"]) == ("done", {"ok": 70}, 10)
    scores = site.scores()
    assert scores["c0000"]["logits"] == scores["twin-c0000"]["logits"]
    assert {row["model_id"] for row in scores.values()} == {model_id}


def test_logits_equal_a_plain_pass_of_each_text_alone(scored: Site, models: Path) -> None:
    artifact = load_artifact(tiny_artifact(models, "bert", "deep"))
    backbone, tokenizer = resolve(artifact.manifest.backbone.name).load()
    alone = Scorer.from_artifact(artifact, backbone, tokenizer)
    scores = scored.scores()
    for key, name, about in companies()[:20]:
        text = artifact.manifest.template.format(name=name, about=about)
        assert_logits_close(scores[key]["logits"], alone.score([text])[0].logits)


def test_probabilities_and_labels_follow_from_logits(scored: Site, models: Path) -> None:
    labels = load_artifact(tiny_artifact(models, "bert", "deep")).manifest.labels
    for row in scored.scores().values():
        for label, logit, probability in zip(labels, row["logits"], row["probabilities"], strict=True):
            assert probability == pytest.approx(1 / (1 + 2.718281828459045**-logit), abs=1e-6)
            assert (label.name in row["labels"]) == (probability >= label.threshold)


def test_unchanged_source_is_nothing_to_do_and_loads_no_model(scored: Site, monkeypatch: Any) -> None:
    before = scored.rows("scores")
    monkeypatch.setattr(stage_module, "scoring_udf", None)
    location = scored.spark.sql(f"DESCRIBE DETAIL {scored.table}").first()["location"]
    for file in Path(location.removeprefix("file:")).glob("*.parquet"):
        file.unlink()  # who read the source would see it
    result = scored.night()
    assert result["outcome"] == "nothing_to_do"
    assert scored.rows("scores") == before


def rows_read(frame: DataFrame) -> int:
    """Return the number of rows that the scans of a frame gave when it was collected."""
    scans = frame._jdf.queryExecution().executedPlan().collectLeaves()
    return sum(scans.apply(at).metrics().apply("numOutputRows").value() for at in range(scans.size()))


def test_that_no_score_contradicts_a_night_is_seen_without_reading_a_row(scored: Site) -> None:
    night = pin_night(scored.warehouse, scored.config())
    (last,) = night.history.rows
    found = night.contradicting(last)
    assert found.collect() == []
    assert rows_read(found) == 0
    other = replace(night, source=replace(night.source, source_id="another"))
    found = other.contradicting(last)
    assert len(found.collect()) == rows_read(found) == 30


def test_only_new_and_changed_companies_are_scored(scored: Site) -> None:
    old = scored.scores()
    scored.write(changed_companies(20))
    result = scored.night()
    assert result["counts"] == {"ok": 2, "removed": 1}
    assert result["skipped"] == 28
    new = scored.scores()
    assert new["c0005"]["removed_in"] == 1
    assert new["c0005"]["logits"] == old["c0005"]["logits"]
    assert new["c0001"] == old["c0001"]


def test_another_writer_in_the_way_of_merge_is_waited_for_and_other_models_are_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = site.champion()
    merge, todo = Warehouse.merge_scores, [True]

    def met(*args: Any, **kwargs: Any) -> None:
        if todo:
            todo.clear()
            raise ConcurrentAppendException("another writer")
        merge(*args, **kwargs)

    monkeypatch.setattr(Warehouse, "merge_scores", met)
    assert (site.night()["counts"], todo) == ({"ok": 70}, [])
    history = site.spark.sql(f"DESCRIBE HISTORY {site.warehouse.name('scores')}").where("operation = 'MERGE'").first()
    assert model_id in history["operationParameters"]["predicate"]  # else nights of two models are in each other's way


def test_changes_say_why(scored: Site) -> None:
    scored.write(changed_companies(20))
    old = scored.scores()
    result = scored.night()
    new = scored.scores()
    changes = scored.warehouse.read("score_changes").where(f"run_id = '{result['run_id']}'").collect()
    found = {(row["key"], row["label"], row["entered"], row["reason"]) for row in changes}
    expected = {("c0005", label, False, "removed") for label in old["c0005"]["labels"]}
    expected |= {("fresh", label, True, "new") for label in new["fresh"]["labels"]}
    before, after = set(old["c0000"]["labels"]), set(new["c0000"]["labels"])
    expected |= {("c0000", label, True, "text") for label in after - before}
    expected |= {("c0000", label, False, "text") for label in before - after}
    assert found == expected


def test_older_version_never_overwrites_newer_scores(scored: Site, monkeypatch: Any) -> None:
    scored.write([("c0000", "other", "text"), *companies(20)[1:]])
    scored.night()
    before = scored.rows("scores")
    monkeypatch.setattr(stage_module, "scoring_udf", None)
    result = scored.night("source.version=0")
    assert result["outcome"] == "superseded"
    assert scored.rows("scores") == before


@pytest.mark.long
def test_company_that_returns_with_its_old_text_is_not_scored_again(site: Site, monkeypatch: Any) -> None:
    site.champion()
    site.night()
    site.write([row for row in companies() if row[0] != "c0050"])  # no other has its text
    site.night()
    site.write(companies())
    monkeypatch.setattr(stage_module, "scoring_udf", None)
    result = site.night()
    assert result["counts"] == {"ok": 1}
    assert site.scores()["c0050"]["removed_in"] is None


def test_ambiguous_and_missing_keys_are_seen(site: Site) -> None:
    site.champion()
    site.write([("a", "one", "text"), ("a", "two", "text"), ("b", "x", "y"), ("b", "x", "y"), (None, "n", "t")])
    result = site.night()
    assert result["counts"] == {"null_key": 1, "error": 1, "ok": 1}
    assert "several rows" in site.scores()["a"]["error"]


@pytest.mark.long
@pytest.mark.parametrize("point", ["merge_scores", "append_rows", "replace_run"])
def test_rerun_after_a_break_equals_an_undisturbed_night(site: Site, monkeypatch: Any, point: str) -> None:
    site.champion()
    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, point, _kill)
        with pytest.raises(KeyboardInterrupt):
            site.night()
    with monkeypatch.context() as patch:
        patch.setattr(stage_module, "scoring_udf", None)  # all texts wait in staging, or are merged
        result = site.night()
    broken = {table: site.rows(table) for table in ("scores", "score_changes")}
    assert result["counts"] == {"ok": 70}
    for table in ("scores", "score_changes", "runs", "score_staging"):
        site.spark.sql(f"DELETE FROM {site.warehouse.name(table)}")
    undisturbed = site.night()
    assert undisturbed["run_id"] == result["run_id"]
    assert {table: site.rows(table) for table in broken} == broken
    assert site.rows("score_staging") == []


def test_failed_night_leaves_its_row_and_tells_no_text(site: Site, monkeypatch: Any) -> None:
    site.champion()
    monkeypatch.setattr(Warehouse, "merge_scores", secret)
    with pytest.raises(ValueError, match="text about"):
        site.night()
    run = site.warehouse.read("runs").collect()[-1]
    assert (run["outcome"], run["error"]) == ("failed", "ValueError")
    assert site.scores() == {}


@pytest.mark.long
def test_staging_that_cannot_be_cleared_away_is_left_to_a_later_night(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.champion()
    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "delete_staged", secret)
        assert site.night()["outcome"] == "done"
    said = capsys.readouterr().err
    assert "warning: what was staged was not cleared away, a later night does it, by a ValueError" in said
    assert "text about" not in said
    assert len(site.rows("score_staging")) == 60
    site.write(changed_companies())
    assert site.night()["outcome"] == "done"
    assert site.rows("score_staging") == []


def test_a_night_that_was_killed_after_its_row_is_whole_and_the_next_one_clears_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.champion()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Warehouse, "delete_staged", _kill)
        site.night()
    (run,) = site.warehouse.read("runs").collect()
    assert run["outcome"] == "done"
    assert run["tokens"] == sum(row["n_tokens"] for row in site.warehouse.read("score_staging").collect()) > 0
    assert site.night()["outcome"] == "nothing_to_do"
    assert site.rows("score_staging") == []


def test_a_night_ends_well_although_its_drift_cannot_be_measured(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.champion()
    monkeypatch.setattr("ptec_udf.nightly.run.measure_drift", secret)
    result = site.night("drift.measure=true")
    assert (result["outcome"], result["counts"], result["drifted"]) == ("done", {"ok": 70}, None)
    said = capsys.readouterr().err
    assert "warning: drift was not measured, by a ValueError" in said
    assert "text about" not in said


def test_missing_backbone_is_refused_before_anything_is_written(site: Site, monkeypatch: Any) -> None:
    site.champion()

    def missing(name: str) -> None:
        raise PtecError(f"backbone {name!r} is not there")

    monkeypatch.setattr("ptec_udf.nightly.plan.resolve", missing)
    with pytest.raises(PtecError, match="is not there"):
        site.night()
    assert site.rows("runs") == []


def _kill(*args: Any, **kwargs: Any) -> None:
    """End as a killed process does, which writes no row of a failure."""
    raise KeyboardInterrupt
