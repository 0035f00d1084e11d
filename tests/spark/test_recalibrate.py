"""A recalibrated model on real tables: its run takes stored logits, and explains why labels moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptec_training.calibrate.config import RecalibrateConfig
from ptec_training.calibrate.recalibrate import recalibrate
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from tests.site import load_config
from tests.spark.support import Site, companies
from tests.tiny import tiny_extract

pytestmark = pytest.mark.long

N = 100


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    made = Site(warehouse, tmp_path)
    made.write(companies(N))
    made.champion()
    made.run()
    return made


def recalibrated(site: Site, *settings: str) -> dict[str, Any]:
    """Recalibrate the champion; a fifth of the extract's rows is of companies that no run has seen."""
    extract = tiny_extract(site.folder / "extract", N + N // 4)
    mine = [
        f"warehouse.database={site.database}",
        f"warehouse.artifacts={site.folder / 'keep'}",
        f"extract={extract}",
        f"out={site.folder / 'out'}",
        "min_rows=5",
    ]
    return recalibrate(site.warehouse, load_config(RecalibrateConfig, None, [*mine, *settings]))


def moves(old: dict[str, Any], new: dict[str, Any]) -> set[tuple[str, str, bool, str]]:
    """The changes between two models' scores, all of them by a threshold."""
    pairs = [(key, set(old[key]["labels"]), set(new[key]["labels"])) for key in new]
    entered = {(key, label, True, "threshold") for key, before, after in pairs for label in after - before}
    return entered | {(key, label, False, "threshold") for key, before, after in pairs for label in before - after}


class TestRecalibrate:
    def test_run_takes_stored_logits(self, site: Site) -> None:
        old_id, old = registry.find(site.warehouse, alias="champion")["model_id"], site.scores()
        made = recalibrated(site, "thresholds=common", "set_thresholds.energy=0.9")
        assert (made["recalibrated_from"], made["rows"], made["without_logits"]) == (old_id, 10, 3)
        models = {row["model_id"]: row for row in site.sql("SELECT * FROM {db}.models")}
        assert models[made["model_id"]]["logits_id"] == models[old_id]["logits_id"]
        site.promote(made["model_id"])
        run = site.run()
        assert (run["outcome"], run["tokens"], run["reused"]) == ("done", 0, N + 10)
        new = {key: row for key, row in site.scores().items() if row["model_id"] == made["model_id"]}
        assert {key: row["logits"] for key, row in new.items()} == {key: row["logits"] for key, row in old.items()}
        labels = load_artifact(models[made["model_id"]]["location"]).manifest.labels
        for row in new.values():
            log_odds = [one.scale * z + one.offset for one, z in zip(labels, row["logits"], strict=True)]
            np.testing.assert_allclose(row["probabilities"], 1 / (1 + np.exp(-np.array(log_odds))), atol=1e-6)
        assert site.changes(run["run_id"]) == moves(old, new) != set()

    def test_is_reproducible_and_refuses_a_used_folder(self, site: Site) -> None:
        first = recalibrated(site)
        with pytest.raises(ConfigError, match="out must be absent or empty"):
            recalibrated(site)
        again = recalibrated(site, "overwrite=true", "name=other")
        assert again["model_id"] == first["model_id"]
        same = recalibrated(site, "extract=null", "set_thresholds.energy=0.5", "overwrite=true")
        assert same["model_id"] == same["recalibrated_from"]
        assert len(site.sql("SELECT * FROM {db}.models")) == 2

    def test_refuses_too_few_rows(self, site: Site) -> None:
        with pytest.raises(SourceError, match=r"at least 11 labelled rows of test .* learned from 0, 10 others have"):
            recalibrated(site, "split=test", "min_rows=11")
