"""Shadows of the champion's texts and backbone are scored in its pass, and their own runs find what they need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from safetensors.torch import load

from ptec_udf.config import EngineConfig
from ptec_udf.engine.load import load_scorer
from ptec_udf.engine.udf import Counters, rows_of_models, together_udf
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import HEAD
from ptec_udf.nightly import run as score_module
from ptec_udf.nightly import stage as stage_module
from ptec_udf.nightly.plan import Night
from ptec_udf.warehouse import registry
from tests.spark.nights import Site, before_writing, changed_companies
from tests.spark.test_shadows import break_merge
from tests.tiny import tiny_artifact, tiny_companies, tiny_text
from tests.tolerance import assert_logits_close
from tests.variants import same_prompt, variant, with_lora

TABLES = ("scores", "score_changes", "runs", "score_staging")


class Reached(BaseException):
    """Ends a night where it was to get to."""


@pytest.fixture
def only_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that scores texts by itself fails."""
    monkeypatch.setattr(stage_module, "scoring_udf", None)


def register(site: Site, artifact: Path) -> str:
    return registry.register(site.warehouse, artifact, site.folder / "keep", artifact.name)


def with_other_head(site: Site) -> str:
    """Register a model with the champion's prompt."""
    artifacts = [tiny_artifact(site.folder, seed=seed) for seed in (0, 1)]
    return register(site, same_prompt(*artifacts, site.folder / "head"))


def runs(site: Site) -> dict[str, Any]:
    return {row["model_id"]: row for row in site.warehouse.read("runs").orderBy("ended").collect()}


def logits(site: Site) -> dict[tuple[str, str], list[float]]:
    return {(row["model_id"], row["key"]): row["logits"] for row in site.warehouse.read("scores").collect()}


def taken_along(site: Site, *shadows: str) -> list[str]:
    """The shadows that a night would score in the champion's pass."""

    def stop(night: Night, still_held: Callable[[], None]) -> None:
        raise Reached([one.record.model_id for one in night.beside])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_module, "_run", stop)
        with pytest.raises(Reached) as reached:
            site.night(f"shadows=[{','.join(shadows)}]")
    return reached.value.args[0]


@pytest.mark.long
def test_shadows_score_in_the_champions_pass_what_they_would_score_alone(site: Site, monkeypatch) -> None:
    first, second, third = site.champion(0), site.model(1), with_other_head(site)
    night = f"shadows=[{second},{third}]"
    with monkeypatch.context() as patch:
        patch.setattr(score_module, "nights_beside", lambda *_: [])
        site.night(night)
    alone = {table: site.rows(table) for table in ("scores", "score_changes")}
    expected, rows = logits(site), runs(site)
    assert all(row["tokens"] > 0 for row in rows.values())
    for table in TABLES:
        site.spark.sql(f"DELETE FROM {site.warehouse.name(table)}")

    monkeypatch.setattr(stage_module, "scoring_udf", None)
    result = site.night(night)
    assert [shadow["outcome"] for shadow in result["shadows"].values()] == ["done", "done"]
    found = logits(site)
    assert found.keys() == expected.keys()
    for row, values in found.items():
        assert_logits_close(values, expected[row])
        assert row[0] != first or values == expected[row]  # to the last bit
    assert [len(site.rows(table)) for table in alone] == [len(of_table) for of_table in alone.values()]
    together = runs(site)
    assert (together[first]["tokens"], together[first]["reused"]) == (rows[first]["tokens"], rows[first]["reused"])
    for model_id in (second, third):
        assert (together[model_id]["tokens"], together[model_id]["reused"]) == (0, 30)
        for name in ("run_id", "alias", "counts", "skipped", "outcome", "dtype"):
            assert together[model_id][name] == rows[model_id][name]
    assert site.rows("score_staging") == []

    monkeypatch.setattr(score_module, "nights_beside", None)  # with nothing to do no shadow is looked at
    assert site.night(night)["outcome"] == "nothing_to_do"


@pytest.mark.long
def test_a_text_that_a_shadow_knows_is_not_scored_for_it_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.champion(0)
    second, marks, mark = site.model(1), [], stage_module.wanted_beside
    site.night(f"model.id={second}")

    def marked(*args: Any) -> Any:
        made = mark(*args)
        marks.append(sorted(row["wanted"] for row in made.collect()))
        return made

    monkeypatch.setattr(stage_module, "wanted_beside", marked)
    assert site.night(f"shadows=[{second}]")["shadows"][second]["counts"] == {}
    assert marks == [[0] * 20]
    site.write([row for row in changed_companies() if row[0] <= "c0019" or row[0] == "fresh"])
    result = site.night(f"shadows=[{second}]")
    assert (result["shadows"][second]["outcome"], marks[1:]) == ("done", [[1, 1]])


@pytest.mark.long
@pytest.mark.usefixtures("only_the_pass")
def test_a_killed_night_has_staged_for_its_shadows_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = site.champion(0), site.model(1)
    with monkeypatch.context() as patch:
        break_merge(patch, first, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            site.night(f"shadows=[{second}]")
    monkeypatch.setattr(stage_module, "together_udf", None)  # all texts wait in staging
    result = site.night(f"shadows=[{second}]")
    assert (result["counts"], result["shadows"][second]["counts"]) == ({"ok": 30}, {"ok": 30})
    assert site.rows("score_staging") == []


@pytest.mark.long
def test_a_night_that_died_before_its_shadow_leaves_nothing_in_staging(site: Site, monkeypatch) -> None:
    site.champion(0)
    second = site.model(1)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(score_module, "score_shadows", stop)
        with pytest.raises(KeyboardInterrupt):
            site.night(f"shadows=[{second}]")
    assert {row["model_id"] for row in site.warehouse.read("score_staging").collect()} == {second}
    result = site.night(f"shadows=[{second}]")
    assert (result["outcome"], result["shadows"][second]["counts"]) == ("nothing_to_do", {"ok": 30})
    assert (runs(site)[second]["reused"], site.rows("score_staging")) == (30, [])


@pytest.mark.long
def test_a_run_of_the_shadows_model_that_was_faster_leaves_nothing_in_staging(site: Site, monkeypatch) -> None:
    site.champion()
    other = with_other_head(site)

    def staged_for() -> set[str]:
        return {row["model_id"] for row in site.warehouse.read("score_staging").collect()}

    def another_run() -> None:
        assert other in staged_for()
        assert site.night(f"model.id={other}")["outcome"] == "done"
        assert other in staged_for()  # by a night that has no row yet, and so is not that run's to clear

    before_writing(monkeypatch, another_run)
    night = site.night(f"shadows=[{other}]")
    assert (night["outcome"], night["shadows"][other]["outcome"]) == ("done", "nothing_to_do")
    assert site.rows("score_staging") == []


@pytest.mark.long
def test_what_a_killed_night_of_an_older_version_staged_for_a_shadow_goes_with_the_next_one(site: Site) -> None:
    first, second = site.champion(0), site.model(1)
    with pytest.MonkeyPatch.context() as patch:
        break_merge(patch, first, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            site.night(f"shadows=[{second}]")
    site.write(changed_companies())
    assert site.night(f"shadows=[{second}]")["shadows"][second]["outcome"] == "done"
    assert {row["model_id"] for row in site.warehouse.read("score_staging").collect()} <= {first}


@pytest.mark.long
def test_what_was_staged_for_a_shadow_that_is_taken_off_goes_in_time(site: Site, monkeypatch) -> None:
    first, second = site.champion(0), site.model(1)
    with monkeypatch.context() as patch:
        break_merge(patch, first, ValueError())
        with pytest.raises(ValueError, match=r"^$"):
            site.night(f"shadows=[{second}]")
    site.night()
    assert {row["model_id"] for row in site.warehouse.read("score_staging").collect()} == {second}
    staging = site.warehouse.name("score_staging")
    site.spark.sql(f"UPDATE {staging} SET staged_at = staged_at - INTERVAL 8 DAYS")
    site.write(changed_companies())
    site.night()
    assert site.rows("score_staging") == []


@pytest.mark.long
def test_a_shadow_that_no_worker_can_load_leaves_the_others_alone(site: Site) -> None:
    first, second = site.champion(0), site.model(1)
    made = with_lora(tiny_artifact(site.folder), site.folder / "lora", "encoder.layer.7.attention.self.query")
    broken = register(site, made)
    assert taken_along(site, broken, second) == [broken, second]
    result = site.night(f"shadows=[{broken},{second}]")
    assert (result["outcome"], result["counts"]) == ("done", {"ok": 30})
    shadows = result["shadows"]
    assert (shadows[broken]["outcome"], shadows[second]["outcome"]) == ("failed", "done")
    assert shadows[broken]["error"]
    assert {model_id for model_id, _ in logits(site)} == {first, second}
    assert runs(site)[second]["tokens"] == 0


@pytest.mark.long
def test_texts_that_fail_for_a_shadow_are_told_by_its_own_run(site: Site) -> None:
    site.champion(0)
    made = tiny_artifact(site.folder)
    head = {name: values * np.nan for name, values in load(load_artifact(made).files[HEAD]).items()}
    broken = register(site, variant(made, site.folder / "nan", head=head))
    assert taken_along(site, broken) == [broken]
    result = site.night(f"shadows=[{broken}]", "max_error_fraction=1")
    shadow = result["shadows"][broken]
    assert (result["counts"], shadow["outcome"], shadow["counts"]) == ({"ok": 30}, "done", {"error": 30})
    assert runs(site)[broken]["tokens"] > 0
    errors = {row["error"] for row in site.warehouse.read("scores").collect()}
    assert errors == {None, "logits are not finite"}


def test_only_shadows_of_the_same_texts_and_backbone_are_taken_along(site: Site) -> None:
    site.champion(0)
    made, other = (tiny_artifact(site.folder, seed=seed) for seed in (0, 1))
    labels = load_artifact(made).manifest.labels
    models = {
        "other_template": variant(other, site.folder / "a", template="About: {about}"),
        "other_backbone": tiny_artifact(site.folder, "llama", "input"),
        "same_logits": variant(
            made, site.folder / "b", labels=[one.model_copy(update={"threshold": 0.9}) for one in labels]
        ),
        "fits": other,
        "lora": with_lora(made, site.folder / "c"),
        "third_backbone": with_lora(other, site.folder / "d", "encoder.layer.1.attention.self.query"),
        "fits_too": same_prompt(made, other, site.folder / "e"),
    }
    names = {register(site, artifact): name for name, artifact in models.items()}
    assert [names[model_id] for model_id in taken_along(site, *names)] == ["fits", "lora", "fits_too"]


def test_marks_stay_with_their_texts_in_any_arrangement(spark: SparkSession, tmp_path: Path) -> None:
    first, other = (tiny_artifact(tmp_path, seed=seed) for seed in (0, 1))
    folders = [first, same_prompt(first, other, tmp_path / "head"), other]
    artifacts, texts = [load_artifact(folder) for folder in folders], [tiny_text(one) for one in tiny_companies(150)]
    model_ids = [artifact.model_id for artifact in artifacts]
    rows = [(at, text, at % 4) for at, text in enumerate(texts)]
    counters = Counters.of(spark, None)
    engine = EngineConfig(dtype="float32", batch_tokens=256, window_rows=7)
    score = together_udf(spark, artifacts, engine, counters)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "20")
    try:
        frame = spark.createDataFrame(rows, "at int, text string, wanted int").repartition(2)
        scored = frame.select("at", score("text", "wanted").alias("scored")).select("at", "scored.*")
        found = rows_of_models(scored, model_ids).collect()
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    for place, artifact in enumerate(artifacts):
        mine = {row["at"]: row["logits"] for row in found if row["model_id"] == artifact.model_id}
        assert sorted(mine) == [at for at in range(150) if place == 0 or at % 4 & 1 << (place - 1)]
        expected = load_scorer(artifact).score([texts[at] for at in mine])
        assert_logits_close([*mine.values()], [result.logits for result in expected])
    assert counters.texts.value == 150
