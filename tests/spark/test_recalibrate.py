"""A recalibrated model on real tables: its night takes stored logits, runs no model, and says why labels moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.nightly import stage as stage_module
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.support import Site, companies
from tests.tiny import tiny_extract
from training.calibrate.config import RecalibrateConfig
from training.calibrate.recalibrate import recalibrate

N = 100


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    made = Site(warehouse, tmp_path)
    made.write(companies(N))
    made.champion()
    made.night()
    return made


def recalibrated(site: Site, *settings: str) -> dict[str, Any]:
    """Recalibrate the champion; a fifth of the extract's rows is of companies that no night has seen."""
    extract = tiny_extract(site.folder / "extract", N + N // 4)
    mine = [
        f"warehouse.database={site.warehouse.database}",
        f"warehouse.artifacts={site.folder / 'keep'}",
        f"extract={extract}",
        f"out={site.folder / 'out'}",
        "min_rows=5",
    ]
    return recalibrate(site.warehouse, load_config(RecalibrateConfig, None, [*mine, *settings]))


def test_night_of_a_recalibrated_model_is_one_merge_of_stored_logits(site: Site, monkeypatch: Any) -> None:
    old_id, old = registry.find(site.warehouse, alias="champion")["model_id"], site.scores()
    result = recalibrated(site, "calibrator=platt", "thresholds=common", "set_thresholds.energy=0.9")
    assert (result["recalibrated_from"], result["rows"], result["left_out"]) == (old_id, 10, 3)
    new_id = result["model_id"]
    rows = {row["model_id"]: row for row in site.warehouse.read("models").collect()}
    assert rows[new_id]["logits_id"] == rows[old_id]["logits_id"]
    registry.promote(site.warehouse, new_id, alias="champion", who="test", why="", check=lambda *_: None)

    monkeypatch.setattr(stage_module, "scoring_udf", None)  # a text that needs a model ends the night
    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "merge_scores", _kill)
        with pytest.raises(KeyboardInterrupt):
            site.night()
    night = site.night()
    assert (night["outcome"], night["counts"], night["reused"]) == ("done", {"ok": N + 10}, N + 10)
    assert night["tokens"] == 0
    new = {row["key"]: row for row in site.warehouse.read("scores").where(f"model_id = '{new_id}'").collect()}
    assert {key: row["logits"] for key, row in new.items()} == {key: row["logits"] for key, row in old.items()}
    labels = load_artifact(rows[new_id]["location"]).manifest.labels
    for row in new.values():
        log_odds = [one.scale * z + one.offset for one, z in zip(labels, row["logits"], strict=True)]
        np.testing.assert_allclose(row["probabilities"], 1 / (1 + np.exp(-np.array(log_odds))), atol=1e-6)
        pairs = zip(labels, row["probabilities"], strict=True)
        assert set(row["labels"]) == {one.name for one, value in pairs if value >= np.float32(one.threshold)}

    changes = site.warehouse.read("score_changes").where(f"run_id = '{night['run_id']}'").collect()
    moved = {(row["key"], row["label"], row["entered"]) for row in changes}
    assert moved == _moves(old, new)
    assert len(changes) == len(moved) > 0
    thresholds = {one.name: pytest.approx(one.threshold) for one in labels}
    for row in changes:
        assert (row["reason"], row["previous_model_id"], row["old_threshold"]) == ("threshold", old_id, 0.5)
        assert row["new_threshold"] == thresholds[row["label"]]
        at = list(thresholds).index(row["label"])
        assert row["old_probability"] == old[row["key"]]["probabilities"][at]
        assert row["new_probability"] == new[row["key"]]["probabilities"][at]

    assert site.night()["outcome"] == "nothing_to_do"
    registry.rollback(site.warehouse, alias="champion", who="test", why="", check=lambda *_: None)
    back = site.night()
    assert (back["outcome"], back["skipped"]) == ("done", N + 10)
    changes = site.warehouse.read("score_changes").where(f"run_id = '{back['run_id']}'").collect()
    assert {row["reason"] for row in changes} == {"threshold"}
    assert {(row["key"], row["label"], row["entered"]) for row in changes} == _moves(new, old)


def test_fit_gives_the_same_model_again_and_too_few_rows_are_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registry, "register", _kill)
        recalibrated(site, "calibrator=temperature")
    with pytest.raises(ConfigError, match="out must be absent or empty"):
        recalibrated(site, "calibrator=none")  # another model than the one that was left there
    first = recalibrated(site, "calibrator=temperature")
    with pytest.raises(ConfigError, match="out must be absent or empty"):
        recalibrated(site, "calibrator=temperature")
    again = recalibrated(site, "calibrator=temperature", "overwrite=true", "name=other")
    assert again["model_id"] == first["model_id"]
    assert [row["name"] for row in site.warehouse.read("models").orderBy("registered").collect()] == ["tiny-0", "out"]
    with pytest.raises(
        SourceError,
        match=r"at least 11 labelled rows of test .* learned from 0, 10 others have",
    ):
        recalibrated(site, "split=test", "min_rows=11", "overwrite=true")
    standing = recalibrated(site, "extract=null", "set_thresholds.energy=0.5", "overwrite=true")
    assert standing["model_id"] == standing["recalibrated_from"]
    assert site.warehouse.read("models").count() == 2


def _moves(old: dict[str, Any], new: dict[str, Any]) -> set[tuple[str, str, bool]]:
    """Keys and labels that differ between two models' scores, and whether the latter has them."""
    pairs = [(key, set(old[key]["labels"]), set(new[key]["labels"])) for key in new]
    entered = {(key, label, True) for key, before, after in pairs for label in after - before}
    return entered | {(key, label, False) for key, before, after in pairs for label in before - after}


def _kill(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt
