"""A recalibrated artifact: what is fitted, kept, measured and recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from ptec_training.calibrate.config import RecalibrateConfig
from ptec_training.calibrate.decisions import Decisions
from ptec_training.calibrate.labelled_logits import LabelledLogits
from ptec_training.calibrate.recalibrate import check_settings, recalibrate_artifact
from ptec_training.data.folder import DATA, RECORD
from ptec_training.data.provenance import fitted_by
from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import Artifact, load_artifact, read_artifact
from ptec_udf.monitor.training import training_reference
from tests.site import load_config
from tests.tiny import LABELS, TEMPLATE, tiny_artifact
from tests.variants import variant

WEIGHTS = np.log([1.0, 2.0, 4.0, 3.0, 1.5])
HASHES = {"texts": torch.tensor([3, 5]), "keys": torch.tensor([7])}


@pytest.fixture(scope="module")
def model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A tiny model with weights of positives."""
    metrics = {"log_pos_weights": dict(zip(LABELS, WEIGHTS.tolist(), strict=True))}
    return load_artifact(
        variant(tiny_artifact(tiny_folder), tmp_path_factory.mktemp("made") / "model", metrics=metrics)
    )


@pytest.fixture(scope="module")
def rows() -> LabelledLogits:
    """Logits whose probabilities are too extreme."""
    random = np.random.default_rng(0)
    logits = random.normal(-1.5, 3.0, (1500, len(LABELS))) + WEIGHTS
    return LabelledLogits(logits, random.random(logits.shape) < expit(0.5 * (logits - WEIGHTS)), 7, 0, HASHES)


def config_of(*settings: str, out: str | Path = "/tmp/new") -> RecalibrateConfig:
    return load_config(RecalibrateConfig, None, [f"out={out}", *settings])


def recalibrated(model: Artifact, rows: LabelledLogits | None, *settings: str) -> tuple[Artifact, dict[str, Any]]:
    """Return the new artifact, read as any other, and the facts."""
    files, facts = recalibrate_artifact(model, config_of(*settings), rows)
    return read_artifact(files), facts


class TestRecalibrate:
    def test_fits_and_measures_by_cross_fitting(self, model, rows) -> None:
        made, facts = recalibrated(model, rows, "extract=x")
        decisions = Decisions.of(made.manifest)
        np.testing.assert_allclose(decisions.calibration.scale, 0.5, atol=0.05)
        np.testing.assert_allclose(decisions.threshold_logits, made.manifest.threshold_logit, atol=1e-6)
        assert facts["after"]["ece"] < 0.03 < 0.1 < facts["before"]["ece"]
        assert facts["after"]["macro_f1"] > facts["before"]["macro_f1"]
        assert (facts["rows"], facts["without_logits"], facts["split"]) == (1500, 7, "dev")

    def test_set_thresholds_win_and_leave_the_others(self, model, rows) -> None:
        made, facts = recalibrated(model, None, "set_thresholds.energy=0.25")
        old = {label.name: label.threshold for label in model.manifest.labels}
        assert {label.name: label.threshold for label in made.manifest.labels} == old | {"energy": 0.25}
        assert "after" not in facts
        fitted, _ = recalibrated(model, rows, "extract=x", "set_thresholds.energy=0.25")
        assert fitted.manifest.labels[LABELS.index("energy")].threshold == 0.25

    def test_records_the_rows_it_was_fitted_to(self, model, rows) -> None:
        def fitted(made: Artifact) -> dict[str, list[int]]:
            return {name: values.tolist() for name, values in fitted_by(made).items()}

        first, _ = recalibrated(model, rows, "extract=x")
        assert fitted(first) == {"texts": [3, 5], "keys": [7]}
        others = replace(rows, hashes={"texts": torch.tensor([4]), "keys": torch.tensor([8])})
        assert fitted(recalibrated(first, others, "extract=x")[0]) == {"texts": [4], "keys": [8]}

    def test_drops_figures_that_it_changes(self, model, tmp_path) -> None:
        label = {"ap": 0.3, "f1": 0.2}
        splits = {"dev": {"overall": {"map": 0.5, "macro_f1": 0.4}, "per_label": {"energy": label}, "curves": {}}}
        folder = tmp_path / "base"
        folder.mkdir()
        for name, data in model.files.items():
            (folder / name).write_bytes(data)
        told = load_artifact(variant(folder, tmp_path / "told", metrics={"splits": splits}))
        made, _ = recalibrated(told, None, "set_thresholds.energy=0.25")
        assert made.metrics["splits"] == {"dev": {"overall": {"map": 0.5}, "per_label": {"energy": {"ap": 0.3}}}}

    def test_drift_compares_with_the_fitted_rows(self, model, rows) -> None:
        made, _ = recalibrated(model, rows, "extract=x")
        decided = Decisions.of(made.manifest).decide(rows.logits)
        found = training_reference(made.metrics)
        assert [found["probability", name].over for name in LABELS] == decided.sum(axis=0).tolist()
        assert found["mix", None].companies == 1500
        moved = training_reference(recalibrated(made, None, "set_thresholds.energy=0.25")[0].metrics)
        assert [label for (_, label), one in moved.items() if one.over is None] == ["energy"]


class TestSettings:
    def test_all_errors_are_named(self, model, companies, tmp_path) -> None:
        (tmp_path / "used").mkdir()
        (tmp_path / "used" / "file").touch()
        (tmp_path / "extract" / DATA).mkdir(parents=True)
        record = json.loads((companies / RECORD).read_text())
        record |= {"template": "{name}", "labels": [one for one in record["labels"] if one["name"] != "media"]}
        (tmp_path / "extract" / RECORD).write_text(json.dumps(record))
        settings = [f"extract={tmp_path / 'extract'}", "set_thresholds={fintec: .4, wood: .5}"]
        with pytest.raises(ConfigError) as caught:
            check_settings(config_of(*settings, out=tmp_path / "used"), model)
        expected = ["'fintec'; did you mean 'fintech'?", "'wood'", TEMPLATE, "missing: 'media'", "absent or empty"]
        for error, part in zip(caught.value.errors, expected, strict=True):
            assert part in error

    @pytest.mark.parametrize(
        ("settings", "error"),
        [
            (["thresholds=common"], "nothing would change"),
            (["set_thresholds.energy=1.5"], "set_thresholds.energy: "),
            (["extract=x", "split=train"], "split: "),
        ],
    )
    def test_wrong_ones_are_refused(self, settings, error) -> None:
        with pytest.raises(ConfigError, match=error):
            config_of(*settings)
