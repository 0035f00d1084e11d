"""A shadow that brings down the champion's pass costs the night time, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from py4j.protocol import Py4JError

from ptec_udf.engine import udf as udf_module
from ptec_udf.errors import PtecError
from ptec_udf.nightly import run as score_module
from ptec_udf.nightly import shadows as shadows_module
from ptec_udf.nightly import stage as stage_module
from ptec_udf.nightly.plan import Night
from tests.spark.nights import Site, before_writing
from tests.spark.test_shadows import point
from tests.spark.test_shadows_beside import runs


@pytest.mark.long
def test_shadows_that_kill_the_workers_are_left_out_and_the_night_is_done(site: Site, monkeypatch, capsys) -> None:
    first, second = site.champion(0), site.model(1)

    def die(*_: Any) -> None:  # travels with the UDF, since it is no module's
        import os

        os._exit(137)

    monkeypatch.setattr(udf_module, "scorer_beside", die)
    result = site.night(f"shadows=[{second}]")
    said = capsys.readouterr().err
    assert f"beside shadows ({second[:12]}); it goes on without them" in said
    assert (result["outcome"], result["counts"]) == ("done", {"ok": 30})
    shadow = result["shadows"][second]
    assert (shadow["outcome"], shadow["counts"]) == ("done", {"ok": 30})
    rows = runs(site)
    assert [rows[model_id]["tokens"] > 0 for model_id in (first, second)] == [True, True]
    assert {row["outcome"] for row in rows.values()} == {"done"}
    assert site.rows("score_staging") == []


@pytest.mark.long
def test_slices_staged_before_shadows_failed_are_not_scored_again(site: Site, monkeypatch) -> None:
    first, second = site.champion(0), site.model(1)
    in_turn, staged = stage_module._in_turn, []

    def half(write: Any, slices: list[Any], own: Any) -> None:
        if staged:
            in_turn(write, slices, own)
            return
        write(slices[0])
        staged.append(slices[0]["texts"])
        raise Py4JError("a shadow failed")

    monkeypatch.setattr(stage_module, "_in_turn", half)
    result = site.night(f"shadows=[{second}]", "slice_texts=8")
    assert (result["outcome"], result["counts"]) == ("done", {"ok": 30})
    assert 0 < staged[0] < 20
    texts = {model_id: runs(site)[model_id]["reused"] for model_id in (first, second)}
    assert texts == {first: 10 + staged[0], second: 10 + staged[0]}


@pytest.mark.long
def test_a_night_that_fails_without_shadows_too_fails(site: Site, monkeypatch) -> None:
    site.champion(0)
    second, tried = site.model(1), []

    def fail(*_: Any, beside: Any, **__: Any) -> None:
        tried.append(len(beside))
        raise Py4JError("out of order")

    monkeypatch.setattr(score_module, "stage", fail)
    with pytest.raises(PtecError, match="Py4JError"):
        site.night(f"shadows=[{second}]")
    assert tried == [1, 0]
    tried.clear()
    with pytest.raises(PtecError, match="Py4JError"):
        site.night()
    assert tried == [0]


@pytest.mark.long
@pytest.mark.parametrize("part", ["known", "fits"])
def test_whatever_is_wrong_with_a_shadow_only_leaves_it_out(site: Site, monkeypatch, part: str) -> None:
    site.champion(0)
    second, known = site.model(1), Night.known

    def broken(night: Night, *_: Any) -> Any:
        if night.record.model_id == second:
            raise ValueError(part)
        return known(night)

    with monkeypatch.context() as patch:
        patch.setattr(*((Night, "known") if part == "known" else (shadows_module, "_fits")), broken)
        patch.setattr(stage_module, "together_udf", None)
        result = site.night(f"shadows=[{second}]")
    assert (result["outcome"], result["counts"]) == ("done", {"ok": 30})
    assert result["shadows"][second]["outcome"] == ("failed" if part == "known" else "done")


def test_a_shadow_whose_alias_is_moved_during_the_night_is_refused(site: Site, monkeypatch) -> None:
    site.champion(0)
    second, third = site.model(1), site.model(2)
    point(site, "challenger", second)
    before_writing(monkeypatch, lambda: point(site, "challenger", third))
    result = site.night("shadows=[challenger]")
    shadow = result["shadows"]["challenger"]
    assert (result["outcome"], shadow["outcome"]) == ("done", "failed")
    assert shadow["error"].startswith(f"alias challenger was moved to model {third[:12]} while this night of")
    assert {row["model_id"] for row in site.scores().values()} == {result["model_id"]}
