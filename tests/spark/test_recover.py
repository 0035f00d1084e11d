"""Nights that were killed after their MERGE, whose rows later nights write."""

from __future__ import annotations

import pytest
from pyspark.sql import functions as F

from tests.spark.nights import Site, changed_companies, companies, kill_after_merge


def test_night_killed_after_merge_is_explained_although_the_source_moved_on(site: Site) -> None:
    site.champion()
    site.night()
    site.write(changed_companies()[:20])
    kill_after_merge(site)
    site.write([*changed_companies()[:20], ("later", "later", "another new one")])
    result = site.night()
    assert result["counts"] == {"ok": 1}
    runs = site.spark.table(site.warehouse.name("run_summary")).orderBy("source_version").collect()
    assert [(row["outcome"], row["source_version"]) for row in runs] == [("done", 0), ("done", 1), ("done", 2)]
    assert runs[1]["companies"] == len(site.warehouse.read("scores").where("source_version = 1").collect())
    explained = site.spark.table(site.warehouse.name("why_changed")).where("source_version = 1").count()
    assert explained == site.warehouse.read("score_changes").where("source_version = 1").count() > 0


def test_night_killed_after_merge_is_explained_although_another_model_was_promoted(site: Site) -> None:
    first = site.champion(0)
    site.night()
    site.write(changed_companies()[:20])
    kill_after_merge(site)
    second = site.champion(1)
    kill_after_merge(site)
    promoted = site.champion(2)
    site.night()
    runs = site.spark.table(site.warehouse.name("run_summary")).orderBy("started").collect()
    of_each = [(row["model_id"], row["alias"], row["source_version"], row["outcome"]) for row in runs]
    assert of_each == [
        (model_id, "champion", version, "done")
        for model_id, version in ((first, 0), (first, 1), (second, 1), (promoted, 1))
    ]
    changes = site.warehouse.read("score_changes")
    explained = site.spark.table(site.warehouse.name("why_changed"))
    assert explained.count() == changes.count()
    assert {row["run_id"] for row in explained.collect()} == {row["run_id"] for row in changes.collect()}
    # What came in and went over all nights is what stands, whoever wrote the nights' rows.
    last = explained.groupBy("key", "label").agg(F.max_by("entered", "changed_at").alias("is_in"))
    stands = site.spark.table(site.warehouse.name("current_scores")).select("key", F.explode("labels").alias("label"))
    assert set(last.where("is_in").select("key", "label").collect()) == set(stands.collect())


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
