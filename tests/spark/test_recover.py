"""Nights that were killed after their MERGE, whose rows later nights write."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import functions as F

from ptec_udf.errors import ConfigError
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import SCHEMA, Site, changed_companies, companies, kill_after_merge


def test_night_killed_after_merge_is_explained_although_the_source_moved_on(scored: Site) -> None:
    scored.write(changed_companies()[:20])
    kill_after_merge(scored)
    scored.write([*changed_companies()[:20], ("later", "later", "another new one")])
    result = scored.night()
    assert result["counts"] == {"ok": 1}
    runs = scored.spark.table(scored.warehouse.name("run_summary")).orderBy("source_version").collect()
    assert [(row["outcome"], row["source_version"]) for row in runs] == [("done", 0), ("done", 1), ("done", 2)]
    assert runs[1]["companies"] == len(scored.warehouse.read("scores").where("source_version = 1").collect())
    explained = scored.spark.table(scored.warehouse.name("why_changed")).where("source_version = 1").count()
    assert explained == scored.warehouse.read("score_changes").where("source_version = 1").count() > 0


def test_an_older_version_is_superseded_by_scores_of_a_killed_night(scored: Site) -> None:
    scored.write(changed_companies()[:20])
    kill_after_merge(scored)
    before = scored.rows("scores"), scored.rows("score_changes")
    assert scored.night("source.version=0")["outcome"] == "superseded"
    assert (scored.rows("scores"), scored.rows("score_changes")) == before


@pytest.mark.long
def test_night_killed_after_merge_is_explained_although_another_model_was_promoted(scored: Site) -> None:
    first = registry.find(scored.warehouse, alias="champion")["model_id"]
    scored.write(changed_companies()[:20])
    kill_after_merge(scored)
    second = scored.champion(1)
    kill_after_merge(scored)
    promoted = scored.champion(2)
    scored.night()
    runs = scored.spark.table(scored.warehouse.name("run_summary")).orderBy("started").collect()
    of_each = [(row["model_id"], row["alias"], row["source_version"], row["outcome"]) for row in runs]
    assert of_each == [
        (model_id, "champion", version, "done")
        for model_id, version in ((first, 0), (first, 1), (second, 1), (promoted, 1))
    ]
    assert_all_is_explained(scored)


def assert_all_is_explained(site: Site) -> None:
    """Check that what came in and went over all nights is what stands, whoever wrote the nights' rows."""
    changes = site.warehouse.read("score_changes")
    explained = site.spark.table(site.warehouse.name("why_changed"))
    assert explained.count() == changes.count()
    assert {row["run_id"] for row in explained.collect()} == {row["run_id"] for row in changes.collect()}
    moves: dict[tuple[str, str], list[bool]] = {}
    for row in explained.orderBy("changed_at").collect():
        moves.setdefault((row["key"], row["label"]), []).append(row["entered"])
    # In and out in turn, since nobody comes in who is in.
    assert all(entered == [at % 2 == 0 for at in range(len(entered))] for entered in moves.values())
    stands = site.spark.table(site.warehouse.name("current_scores")).select("key", F.explode("labels").alias("label"))
    assert {pair for pair, entered in moves.items() if entered[-1]} == set(map(tuple, stands.collect()))


def test_night_killed_after_merge_is_explained_although_another_source_takes_over(scored: Site, other: str) -> None:
    scored.write(changed_companies()[:20])
    kill_after_merge(scored)
    assert scored.night(f"source.table={other}", "source.accept_new=true")["outcome"] == "done"
    runs = scored.warehouse.read("runs").orderBy("started").collect()
    names = [scored.table, scored.table, other]
    assert [(row["source_name"], row["source_version"]) for row in runs] == list(zip(names, (0, 1, 0), strict=True))
    assert_all_is_explained(scored)


@pytest.mark.long
def test_killed_night_of_a_shadow_is_its_own_although_columns_were_changed_when_it_was_promoted(site: Site) -> None:
    columns = "source.columns={about: name}"
    site.champion(0)
    site.night(columns)
    second = site.model(1)
    registry.promote(site.warehouse, second, alias="next", who="test", why="", check=lambda *_: None)
    kill_after_merge(site, columns, "model.alias=next")
    site.champion(1)
    site.night()
    runs = site.warehouse.read("runs").orderBy("started").collect()
    assert [row["alias"] for row in runs] == ["champion", "next", "champion"]


@pytest.mark.long
def test_killed_night_is_of_its_alias_whoever_writes_its_row(site: Site) -> None:
    model_id = site.champion()
    kill_after_merge(site)
    site.write(changed_companies()[:20])
    assert site.night(f"model.id={model_id}")["outcome"] == "done"
    runs = site.warehouse.read("runs").orderBy("source_version").collect()
    assert [(row["alias"], row["source_version"]) for row in runs] == [("champion", 0), (None, 1)]


@pytest.mark.long
def test_killed_night_of_other_columns_has_its_own(site: Site) -> None:
    site.champion()
    columns = "source.columns={about: name}"
    site.night(columns)
    site.write(changed_companies()[:20])
    kill_after_merge(site, columns)
    site.write(companies(20))
    site.night()
    runs = site.warehouse.read("runs").orderBy("source_version").collect()
    assert [(row["alias"], row["source_version"]) for row in runs] == [
        ("champion", 0),
        ("champion", 1),
        ("champion", 2),
    ]
    assert runs[0]["text_id"] == runs[1]["text_id"] != runs[2]["text_id"]


@pytest.mark.long
def test_first_night_that_was_killed_is_of_the_alias_although_columns_and_model_are_others(site: Site) -> None:
    site.champion(0)
    kill_after_merge(site, "source.columns={about: name}")
    site.champion(1)
    site.night()
    runs = site.warehouse.read("runs").orderBy("started").collect()
    assert [(row["alias"], row["outcome"]) for row in runs] == [("champion", "done"), ("champion", "done")]
    assert site.spark.table(site.warehouse.name("why_changed")).select("run_id").distinct().count() == 2


@pytest.fixture
def other(scored: Site) -> str:
    """A table of other companies."""
    name = f"{scored.warehouse.database}.others"
    rows = [(key, name, f"of others, {about}") for key, name, about in companies(10)]
    scored.spark.createDataFrame(rows, SCHEMA).write.format("delta").saveAsTable(name)
    return name


def test_another_source_that_a_killed_night_was_told_to_accept_is_accepted(scored: Site, other: str) -> None:
    kill_after_merge(scored, f"source.table={other}", "source.accept_new=true")
    assert scored.night(f"source.table={other}")["outcome"] == "done"
    runs = scored.warehouse.read("runs").where(f"source_name = '{other}'").collect()
    scored_of_it = [sum(n for status, n in row["counts"].items() if status != "removed") for row in runs]
    assert ([row["outcome"] for row in runs], scored_of_it) == (["done"], [20])


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "by the model's id"])
def test_scores_of_other_columns_of_the_same_version_do_not_stay(scored: Site, is_killed: bool) -> None:
    texts = {key: row["text_hash"] for key, row in scored.scores().items()}
    columns = "source.columns={about: name}"
    if is_killed:
        kill_after_merge(scored, columns)
    else:
        model_id = registry.find(scored.warehouse, alias="champion")["model_id"]
        assert scored.night(columns, f"model.id={model_id}")["outcome"] == "done"
    assert not texts.items() & {key: row["text_hash"] for key, row in scored.scores().items()}.items()
    assert scored.night()["outcome"] == "done"
    assert {key: row["text_hash"] for key, row in scored.scores().items()} == texts
    assert scored.night()["outcome"] == "nothing_to_do"


def test_scores_that_a_killed_night_took_from_another_source_are_not_taken_for_this_ones(
    scored: Site, other: str
) -> None:
    kill_after_merge(scored, f"source.table={other}", "source.accept_new=true")
    assert {row["source_version"] for row in scored.scores().values()} == {0}
    with pytest.raises(ConfigError, match="--accept-new-source"):
        scored.night()  # of the version that was scored last
    scored.write(companies(21))
    with pytest.raises(ConfigError, match="--accept-new-source"):
        scored.night()
    assert scored.night("source.accept_new=true")["outcome"] == "done"
    standing = [row for row in scored.scores().values() if row["removed_in"] is None]
    assert {row["key"] for row in standing} == {key for key, *_ in companies(21)}
    assert len({row["text_hash"] for row in standing}) == 21
    assert len({row["source_id"] for row in standing}) == 1
    assert scored.night()["outcome"] == "nothing_to_do"


def test_a_rerun_forgets_what_a_killed_night_told_of_a_source_that_is_whole_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.champion()
    view = f"{site.warehouse.database}.shown"
    site.spark.sql(f"CREATE VIEW {view} AS SELECT * FROM {site.table}")
    site.night(f"source.table={view}")
    explained = site.rows("score_changes")
    site.write(companies(20)[5:])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Warehouse, "merge_scores", _stop)
        site.night(f"source.table={view}")
    assert len(site.rows("score_changes")) > len(explained)
    site.write(companies(20))
    assert site.night(f"source.table={view}")["skipped"] == 30
    assert site.rows("score_changes") == explained


def _stop(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt
