"""Nights around a promotion or rollback: what is scored, what is explained, and what the next champion may read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ptec_udf.errors import ConfigError, HeldError, RemovalBudgetError, SourceError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.manifest import Label
from ptec_udf.nightly import stage as stage_module
from ptec_udf.warehouse import registry
from tests.spark.nights import SCHEMA, Site, changed_companies, companies, kill_after_merge
from tests.tiny import LABELS, tiny_artifact
from tests.variants import variant


def test_new_champion_scores_all_and_old_scores_stay(scored: Site) -> None:
    first = registry.find(scored.warehouse, alias="champion")["model_id"]
    second = scored.champion(1)
    result = scored.night()
    assert result["counts"] == {"ok": 30}
    rows = scored.warehouse.read("scores").collect()
    assert sorted({row["model_id"] for row in rows}) == sorted({first, second})
    changes = scored.warehouse.read("score_changes").where(f"run_id = '{result['run_id']}'").collect()
    assert changes
    assert {(row["reason"], row["previous_model_id"]) for row in changes} == {("model", first)}


def test_a_champion_of_other_labels_and_another_template_moves_companies_as_a_model(site: Site, tmp_path: Path) -> None:
    site.champion()
    gone, renamed = LABELS[0], "renamed"
    site.correct(("c0001", gone, True), ("c0002", gone, False))
    site.night()
    old = site.scores()
    made = tiny_artifact(site.folder, "bert", "deep", seed=1)
    labels = [one.model_copy(update={"name": renamed}) if one.name == gone else one for one in made_labels(made)]
    other = variant(made, tmp_path / "other", template="About: {about}", labels=labels)
    model_id = registry.register(site.warehouse, other, tmp_path / "keep", "other")
    registry.promote(site.warehouse, model_id, alias="champion", who="test", why="", check=lambda *_: None)
    night = site.night()
    new = {row["key"]: row for row in site.warehouse.read("scores").where(f"model_id = '{model_id}'").collect()}
    changes = site.warehouse.read("score_changes").where(f"run_id = '{night['run_id']}'").collect()
    moves = {(row["key"], row["label"], row["entered"]) for row in changes}
    pairs = [(key, set(old[key]["labels"]), set(row["labels"])) for key, row in new.items()]
    assert moves == {
        (key, label, label in after) for key, before, after in pairs for label in before.symmetric_difference(after)
    }
    # The text of no company has changed, and of a label that is gone nobody says anything any more.
    assert {row["reason"] for row in changes} == {"model"}
    of_gone, of_renamed = ([row for row in changes if row["label"] == label] for label in (gone, renamed))
    assert "c0001" in {row["key"] for row in of_gone}
    nothing = (None, None)
    assert {(row["entered"], row["new_probability"], row["new_threshold"]) for row in of_gone} == {(False, *nothing)}
    assert {(row["entered"], row["old_probability"], row["old_threshold"]) for row in of_renamed} == {(True, *nothing)}
    assert all(row["new_probability"] == new[row["key"]]["probabilities"][0] for row in of_renamed)


def made_labels(folder: Path) -> list[Label]:
    return load_artifact(folder).manifest.labels


def test_first_night_of_a_screen_says_who_came_in_although_another_run_has_scored(site: Site) -> None:
    model_id = site.champion()
    site.night(f"model.id={model_id}")
    shown = site.spark.table(site.warehouse.name("why_changed"))
    assert shown.count() == 0
    assert site.night()["counts"] == {}
    entered = {(row["key"], row["label"], row["reason"], row["entered"]) for row in shown.collect()}
    assert (
        entered == {(key, label, "new", True) for key, row in site.scores().items() for label in row["labels"]} != set()
    )


def test_a_run_of_the_champion_by_its_id_is_named_by_the_next_night(scored: Site, capsys: Any) -> None:
    model_id = registry.find(scored.warehouse, alias="champion")["model_id"]
    scored.write(changed_companies()[:20])
    by_id = scored.night(f"model.id={model_id}")
    assert "has scored model" not in capsys.readouterr().err
    scored.night()
    said = f"run {by_id['run_id']} has scored model {model_id[:12]} by its id alone, and told there what changed"
    assert said in capsys.readouterr().err


def test_a_model_that_is_promoted_while_a_night_is_at_work_has_its_own_night_after_it(
    scored: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = registry.find(scored.warehouse, alias="champion")["model_id"]
    scored.write(companies(25))

    def promoted_meanwhile(*args: Any, **kwargs: Any) -> stage_module.Staged:
        monkeypatch.undo()
        scored.champion(1)
        with pytest.raises(HeldError, match="holds alias champion"):
            scored.night()
        return stage_module.stage(*args, **kwargs)

    monkeypatch.setattr("ptec_udf.nightly.run.stage", promoted_meanwhile)
    late, new = scored.night(), scored.night()
    assert (late["outcome"], late["model_id"], late["counts"]) == ("done", first, {"ok": 5})
    assert (new["outcome"], new["counts"]) == ("done", {"ok": 35})
    told: dict[str, set[str]] = {}
    for row in scored.spark.table(scored.warehouse.name("why_changed")).orderBy("changed_at").collect():
        labels = told.setdefault(row["key"], set())
        assert row["entered"] is not (row["label"] in labels)
        (labels.add if row["entered"] else labels.remove)(row["label"])
    shown = scored.spark.table(scored.warehouse.name("current_scores")).collect()
    assert {key: labels for key, labels in told.items() if labels} == {
        row["key"]: set(row["labels"]) for row in shown if row["labels"]
    }


@pytest.mark.long
def test_half_written_source_is_refused_of_a_new_champion_too(site: Site) -> None:
    site.champion()
    site.write(companies(200))
    site.night()
    site.champion(1)
    site.write(companies(90))
    with pytest.raises(RemovalBudgetError, match="110 of 210 companies are gone"):
        site.night()
    assert site.night("max_removed_fraction=1")["counts"] == {"ok": 100}


def test_half_written_source_is_refused_although_the_new_champion_has_few_scores_of_its_own(site: Site) -> None:
    site.night(f"model.id={site.model(1)}")
    site.champion()
    site.write(companies(200))
    site.night()
    site.champion(1)
    site.write(companies(15))
    with pytest.raises(RemovalBudgetError, match="185 of 210 companies are gone"):
        site.night()


def test_a_model_that_comes_back_is_not_judged_by_the_companies_that_it_knew_once(site: Site) -> None:
    site.write(companies(200))
    site.night(f"model.id={site.model(1)}")
    site.champion()
    site.write(companies(15))
    site.night()
    site.champion(1)
    assert site.night()["counts"] == {"removed": 185}


@pytest.mark.long
def test_after_rollback_nothing_is_scored_and_changes_say_model(site: Site, monkeypatch: Any) -> None:
    first = site.champion(0)
    site.night()
    site.champion(1)
    forth = site.night()
    registry.rollback(site.warehouse, alias="champion", who="test", why="", check=lambda *_: None)
    monkeypatch.setattr(stage_module, "scoring_udf", None)
    back = site.night()
    assert (back["outcome"], back["model_id"], back["skipped"]) == ("done", first, 30)

    def moves(run_id: str) -> set[tuple[str, str, bool]]:
        rows = site.warehouse.read("score_changes").where(f"run_id = '{run_id}'").collect()
        return {(row["key"], row["label"], row["entered"]) for row in rows}

    assert moves(forth["run_id"])
    assert moves(back["run_id"]) == {(key, label, not entered) for key, label, entered in moves(forth["run_id"])}


def test_a_table_that_is_replaced_in_place_stays_the_same_source(site: Site) -> None:
    site.champion()
    site.night()
    for n_left, counts in ((25, {"removed": 5}), (22, {"removed": 3})):
        frame = site.spark.createDataFrame(companies(20)[:n_left], SCHEMA)
        frame.writeTo(site.table).using("delta").createOrReplace()
        result = site.night()
        assert (result["counts"], result["skipped"]) == (counts, n_left)
    assert site.night()["outcome"] == "nothing_to_do"
    assert len({row["source_id"] for row in site.warehouse.read("runs").collect()}) == 1
    site.spark.sql(f"DROP TABLE {site.table}")
    for _ in range(4):  # until it has the version that was scored last, and one more
        site.write(companies(20)[:22])
    with pytest.raises(ConfigError, match="--accept-new-source"):
        site.night()


def test_a_table_whose_first_night_was_killed_stays_the_same_source_when_it_is_replaced(site: Site) -> None:
    site.champion()
    kill_after_merge(site)
    for n_left in (25, 22):
        site.spark.createDataFrame(companies(20)[:n_left], SCHEMA).writeTo(site.table).using("delta").createOrReplace()
        if n_left == 25:
            kill_after_merge(site)
    result = site.night()
    assert (result["counts"], result["skipped"]) == ({"removed": 3}, 22)
    runs = site.warehouse.read("runs").collect()
    assert {row["source_version"] for row in runs} == {0, 1, 2}
    assert len({row["source_id"] for row in runs}) == 1


def test_a_table_whose_log_cannot_be_read_is_not_taken_for_another(site: Site) -> None:
    site.champion()
    site.night()
    site.spark.createDataFrame(companies(20)[:25], SCHEMA).writeTo(site.table).using("delta").createOrReplace()
    place = site.spark.sql(f"DESCRIBE DETAIL {site.table}").first()["location"].removeprefix("file:")
    site.spark.sql(f"ALTER TABLE {site.table} SET TBLPROPERTIES ('delta.checkpointInterval' = '2')")  # at version 2
    log = Path(place) / "_delta_log"
    for beside in (f"{0:020d}.crc", f".{0:020d}.json.crc"):
        (log / beside).unlink(missing_ok=True)
    (log / f"{0:020d}.json").write_text("no JSON")
    with pytest.raises(SourceError, match=r"the Delta log of .* must be readable, .*; give --accept-new-source"):
        site.night()
    assert site.night("source.accept_new=true")["counts"]["removed"] == 5


def test_a_table_that_was_there_and_is_moved_into_the_place_of_another_is_another_source(site: Site) -> None:
    site.champion()
    site.spark.createDataFrame(companies(20)[:5], SCHEMA).writeTo(f"{site.table}_green").using("delta").create()
    night = site.night()
    green = site.warehouse.read("runs").first()["source_fingerprint"]
    assert (night["source_version"], green) == (0, site.warehouse.read("runs").first()["source_id"])
    site.spark.sql(f"ALTER TABLE {site.table} RENAME TO {site.table}_blue")
    site.spark.sql(f"ALTER TABLE {site.table}_green RENAME TO {site.table}")
    with pytest.raises(ConfigError, match="--accept-new-source"):
        site.night()
    site.write(companies(20)[:6])  # so that its log holds the version that was scored, and one more
    with pytest.raises(ConfigError, match="--accept-new-source"):
        site.night()
    accepted = site.night("source.accept_new=true", "max_removed_fraction=0")
    assert accepted["counts"]["removed"] == 24


@pytest.mark.long
def test_another_source_is_refused_until_it_is_accepted(site: Site) -> None:
    site.champion()
    site.night()
    site.spark.sql(f"DROP TABLE {site.table}")
    site.write(companies(20)[:15])
    with pytest.raises(ConfigError, match="--accept-new-source"):
        site.night()
    site.champion(1)  # which no night has scored with: the screen's source is what counts
    with pytest.raises(ConfigError, match="--accept-new-source"):
        site.night()
    site.champion(0)
    result = site.night("source.accept_new=true")
    assert result["counts"] == {"ok": 15, "removed": 15}
    # From now on it is the known source: no row is stuck with the old one.
    site.write(companies(20)[:14])
    assert site.night()["counts"] == {"removed": 1}
