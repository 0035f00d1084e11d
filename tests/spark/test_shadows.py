"""Shadows of a night: unseen until promoted, found again after a kill, and no trouble to the champion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ptec_udf.model.artifact_format import HEAD
from ptec_udf.nightly import run as score_module
from ptec_udf.nightly import stage as stage_module
from ptec_udf.nightly.plan import Night
from ptec_udf.nightly.shadows import Shadow, find_shadows
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import SCHEMA, Site, companies
from tests.spark.test_commands import run


def point(site: Site, alias: str, model_id: str) -> None:
    registry.promote(site.warehouse, model_id, alias=alias, who="test", why="", check=lambda *_: None)


def shown(site: Site) -> dict[str, tuple[str, list[float]]]:
    """What the champion's view shows."""
    rows = site.spark.table(site.warehouse.name("current_scores")).collect()
    return {row["key"]: (row["model_id"], row["logits"]) for row in rows}


def break_merge(patch: pytest.MonkeyPatch, model_id: str, error: BaseException) -> None:
    """Let the MERGE of one model fail."""
    merge = Warehouse.merge_scores

    def broken(self: Warehouse, df: Any, at: str, **options: Any) -> None:
        if at == model_id:
            raise error
        merge(self, df, at, **options)

    patch.setattr(Warehouse, "merge_scores", broken)


def test_no_secret_of_a_configuration_comes_into_the_table_of_runs(site: Site) -> None:
    site.champion(0)
    point(site, "challenger", site.model(1))
    secrets = ("warehouse.spark={spark.hadoop.fs.s3a.secret.key: sesame}", "notice.webhook=https://hooks/sesame")
    site.night("shadows=[challenger]", *secrets)
    runs = site.warehouse.read("runs").collect()
    assert {row["alias"] for row in runs} == {"champion", "challenger"}
    assert all(json.loads(row["config"])["source"]["key"] == "key" for row in runs)
    assert "sesame" not in repr(runs)


def test_a_shadow_is_scored_unseen_and_shows_once_it_is_promoted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = site.champion(0), site.model(1)
    point(site, "challenger", second)
    result = site.night("shadows=[challenger]")
    shadow = result["shadows"]["challenger"]
    assert (shadow["model_id"], shadow["outcome"], shadow["counts"]) == (second, "done", {"ok": 30})
    runs = {row["model_id"]: row for row in site.warehouse.read("runs").collect()}
    assert {runs[model]["source_version"] for model in (first, second)} == {0}
    assert (runs[second]["alias"], runs[second]["run_id"]) == ("challenger", shadow["run_id"])
    assert json.loads(runs[second]["config"])["shadow_of"] == result["run_id"] == runs[first]["run_id"]
    assert {model_id for model_id, _ in shown(site).values()} == {first}
    why_changed = site.spark.table(site.warehouse.name("why_changed"))
    assert {row["model_id"] for row in why_changed.collect()} == {first}

    monkeypatch.setattr(stage_module, "scoring_udf", None)
    again = site.night("shadows=[challenger]")
    assert (again["outcome"], again["shadows"]["challenger"]["outcome"]) == ("nothing_to_do", "nothing_to_do")

    point(site, "champion", second)
    scores = site.warehouse.read("scores").where(f"model_id = '{second}'").collect()
    assert shown(site) == {row["key"]: (second, row["logits"]) for row in scores}
    promoted = site.night("shadows=[challenger]")
    assert (promoted["outcome"], promoted["skipped"]) == ("done", 30)
    assert promoted["shadows"]["challenger"]["error"] == "it is the model of the night itself"
    reasons = {row["reason"] for row in why_changed.where(f"run_id = '{promoted['run_id']}'").collect()}
    assert reasons == {"model"}


def test_a_table_that_is_replaced_while_a_night_with_shadows_begins_stays_the_same_source(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.champion(0)
    second = site.model(1)
    site.night(f"shadows=[{second}]")

    def replace(n_rows: int) -> None:
        site.spark.createDataFrame(companies(20)[:n_rows], SCHEMA).writeTo(site.table).using("delta").createOrReplace()

    def found_meanwhile(night: Night) -> list[Shadow]:
        replace(24)
        site.spark.sql(f"UPDATE {site.warehouse.name('runs')} SET reused = 0")  # so that the night looks again
        return find_shadows(night)

    replace(25)
    with monkeypatch.context() as patch:
        patch.setattr(score_module, "find_shadows", found_meanwhile)
        result = site.night(f"shadows=[{second}]")
    assert (result["source_version"], result["counts"]) == (2, {"removed": 6})
    assert result["shadows"][second]["counts"] == {"removed": 6}
    site.write(companies(20)[:23])
    assert site.night(f"shadows=[{second}]")["counts"] == {"removed": 1}


@pytest.mark.long
def test_what_a_shadow_cannot_do_is_told_and_the_command_is_done(site: Site) -> None:
    site.champion(0)
    broken, second = site.model(1), site.model(2)
    location = site.warehouse.read("models").where(f"model_id = '{broken}'").first()["location"]
    (Path(location) / HEAD).write_bytes(b"broken")
    point(site, "twin", second)
    shadows = ["nobody", broken[:12], "feedfeed", second, "twin"]
    done = run(site, "score", "--json", shadows=shadows)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.strip().splitlines()[-1])
    outcomes = {name: shadow["outcome"] for name, shadow in result["shadows"].items()}
    assert outcomes == dict(zip(shadows, ["skipped", "failed", "skipped", "done", "skipped"], strict=True))
    assert (result["outcome"], result["counts"]) == ("done", {"ok": 30})
    expected = ["no model has the alias 'nobody'", HEAD, "begins with 'feedfeed'", None, f"model of shadow {second}"]
    rows = sorted(site.warehouse.read("runs").collect(), key=lambda row: row["ended"])
    assert [row["outcome"] for row in rows] == ["done", *outcomes.values()]
    for row, name, reason in zip(rows[1:], shadows, expected, strict=True):
        assert row["error"] == result["shadows"][name]["error"]
        assert reason is None or (reason in row["error"] and f"warning: shadow {name}" in done.stderr)


@pytest.mark.long
def test_a_shadow_that_fails_or_is_killed_goes_on_by_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.champion(0)
    second = site.model(1)
    with monkeypatch.context() as patch:
        break_merge(patch, second, ValueError("text about a company"))
        result = site.night(f"shadows=[{second}]")
    shadow = result["shadows"][second]
    assert (result["outcome"], shadow["outcome"], shadow["error"]) == ("done", "failed", "ValueError")
    assert "text about" not in capsys.readouterr().err
    with monkeypatch.context() as patch:
        break_merge(patch, second, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            site.night(f"shadows=[{second}]")
    monkeypatch.setattr(stage_module, "scoring_udf", None)  # all texts wait in staging
    result = site.night(f"shadows=[{second}]")
    assert result["outcome"] == "nothing_to_do"
    assert (result["shadows"][second]["outcome"], result["shadows"][second]["counts"]) == ("done", {"ok": 30})
