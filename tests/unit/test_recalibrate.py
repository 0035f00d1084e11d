"""Other calibration and thresholds for a model: fitted to given logits or set by hand, all else as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit

from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import load_artifact, read_artifact
from ptec_udf.model.artifact_format import MANIFEST, METRICS, SEEN, seal
from ptec_udf.monitor.distribution import count_probabilities, probability_counts
from ptec_udf.monitor.training import training_reference
from tests.tiny import LABELS, TEMPLATE, tiny_artifact
from tests.variants import seen_of, variant
from training.calibrate.decide import Decisions
from training.calibrate.recalibration.config import RecalibrateConfig
from training.calibrate.recalibration.parameters import Parameters, log_pos_weights
from training.calibrate.recalibration.recalibrate import check, recalibrated
from training.calibrate.recalibration.rows import LabelledLogits, _labelled, _not_learned
from training.data.folder import DATA, RECORD, read_extract_record
from training.data.provenance import fitted_by, seen_by

WEIGHTS = np.log([1.0, 2.0, 4.0, 3.0, 1.5])
HASHES = {"texts": torch.tensor([3, 5]), "keys": torch.tensor([7])}


@pytest.fixture(scope="module")
def model(tiny_folder):
    """A tiny model that tells the weights of its positives."""
    made = load_artifact(tiny_artifact(tiny_folder))
    files = {name: data for name, data in made.files.items() if name != MANIFEST}
    told = made.metrics | {"log_pos_weights": dict(zip(LABELS, WEIGHTS.tolist(), strict=True))}
    files[METRICS] = json.dumps(told).encode()
    return read_artifact({**files, MANIFEST: seal(made.manifest, files)[1]})


@pytest.fixture(scope="module")
def rows():
    """Logits that are half as sure as they look."""
    random = np.random.default_rng(0)
    logits = random.normal(-1.5, 3.0, (1500, len(LABELS))) + WEIGHTS
    return LabelledLogits(logits, random.random(logits.shape) < expit(0.5 * (logits - WEIGHTS)), 7, 0, HASHES)


def config_of(*settings, out="/tmp/new"):
    return load_config(RecalibrateConfig, None, [f"out={out}", "calibrator=keep", "thresholds=keep", *settings])


def made_of(model, rows, *settings):
    """The new artifact, read as any other, and the facts."""
    new = recalibrated(model, config_of(*settings), rows)
    made = read_artifact(new.files)
    assert made.model_id == new.model_id
    return made, new.facts


def values(made, name):
    return np.array([getattr(label, name) for label in made.manifest.labels])


def test_fit_gives_probabilities_that_hold_and_measures_them_by_cross_fitting(model, rows):
    made, facts = made_of(model, rows, "extract=x", "calibrator=platt", "thresholds=common")
    np.testing.assert_allclose(values(made, "scale"), 0.5, atol=0.05)
    np.testing.assert_allclose(values(made, "offset"), -0.5 * WEIGHTS, atol=0.15)
    on_logits = (np.log(values(made, "threshold") / (1 - values(made, "threshold"))) - values(made, "offset")) / 0.5
    assert np.ptp(on_logits * 0.5 / values(made, "scale")) < 1e-6  # one threshold for all on the logit
    assert facts["after"]["ece"] < 0.03 < 0.1 < facts["before"]["ece"]
    assert facts["after"]["macro_f1"] > facts["before"]["macro_f1"]
    assert (facts["rows"], facts["left_out"], facts["split"]) == (1500, 7, "dev")
    assert made.metrics["recalibrated"]["from"] == model.model_id


def test_a_curve_is_fitted_put_into_the_artifact_and_read_again(model):
    curve = [(-2.0, -4.0), (0.0, 1.0), (2.0, 1.5)]
    random = np.random.default_rng(1)
    logits = random.normal(-1.0, 2.0, (3000, len(LABELS))) + WEIGHTS
    targets = random.random(logits.shape) < expit(np.interp(logits - WEIGHTS, *zip(*curve, strict=True)))
    made, facts = made_of(
        model, LabelledLogits(logits, targets, 0, 0, HASHES), "extract=x", "calibrator=isotonic", "thresholds=common"
    )
    assert made.manifest.calibrator == "isotonic"
    assert len(made.manifest.curve) >= 2
    assert facts["after"]["ece"] < 0.02
    decisions = Decisions.of(made.manifest)
    np.testing.assert_allclose(decisions.threshold_logits, made.manifest.threshold_logit, atol=1e-6)
    kept, _ = made_of(made, None, "set_thresholds.energy=0.25")
    assert kept.manifest.curve == made.manifest.curve
    straight, _ = made_of(made, LabelledLogits(logits, targets, 0, 0, HASHES), "extract=x", "calibrator=platt")
    assert straight.manifest.curve is None


def test_only_calibration_and_thresholds_differ(model, rows):
    made, _ = made_of(model, rows, "extract=x", "calibrator=temperature")
    assert made.model_id != model.model_id
    assert made.logits_id == model.logits_id
    unchanged = set(model.files) - {MANIFEST, METRICS, SEEN}
    assert {name: made.files[name] for name in unchanged} == {name: model.files[name] for name in unchanged}
    assert made.manifest.extract == model.manifest.extract
    assert made.metrics["splits"]["dev"]["overall"]["map"] == model.metrics["splits"]["dev"]["overall"]["map"]


def test_kept_thresholds_stay_on_the_logit_and_kept_calibration_in_place(model, rows):
    before = Parameters.of(model.manifest).decide(rows.logits)
    calibrated, _ = made_of(model, rows, "extract=x", "calibrator=platt")
    after = Parameters.of(calibrated.manifest).decide(rows.logits)
    np.testing.assert_array_equal(after[1], before[1])
    assert abs(after[0] - before[0]).max() > 0.05
    decided, _ = made_of(model, rows, "extract=x", "thresholds=common")
    assert [label.scale for label in decided.manifest.labels] == [label.scale for label in model.manifest.labels]
    assert decided.manifest.calibrator == model.manifest.calibrator
    assert decided.manifest.threshold_logit != model.manifest.threshold_logit


def test_an_artifact_says_to_which_rows_what_it_has_was_fitted(model, rows):
    first, _ = made_of(model, rows, "extract=x", "calibrator=platt")
    assert fitted_by(model) is None
    assert {name: values.tolist() for name, values in fitted_by(first).items()} == {"texts": [3, 5], "keys": [7]}
    others = replace(rows, hashes={"texts": torch.tensor([4]), "keys": torch.tensor([8])})
    beside, _ = made_of(first, others, "extract=x", "thresholds=common")  # its calibration is that of the first fit
    assert {name: values.tolist() for name, values in fitted_by(beside).items()} == {"texts": [3, 4, 5], "keys": [7, 8]}
    anew, _ = made_of(beside, others, "extract=x", "thresholds=common", "calibrator=platt")
    assert {name: values.tolist() for name, values in fitted_by(anew).items()} == {"texts": [4], "keys": [8]}
    by_hand, _ = made_of(anew, None, "set_thresholds.energy=0.25")
    assert by_hand.files[SEEN] == anew.files[SEEN]
    learned = seen_by(model)
    assert (seen_by(anew) is None) is (learned is None)


def test_set_thresholds_win_and_leave_the_others_as_they_are(model, rows):
    made, facts = made_of(model, None, "set_thresholds.energy=0.25")
    old = {label.name: label.threshold for label in model.manifest.labels}
    assert {label.name: label.threshold for label in made.manifest.labels} == old | {"energy": 0.25}
    assert "after" not in facts
    fitted, _ = made_of(model, rows, "extract=x", "calibrator=platt", "thresholds=common", "set_thresholds.energy=0.25")
    assert fitted.manifest.labels[LABELS.index("energy")].threshold == 0.25


def test_figures_that_no_longer_hold_are_not_carried_over(model):
    told = model.metrics | {
        "splits": {"dev": {"overall": {"map": 0.5, "macro_f1": 0.4}, "per_label": {"energy": {"ap": 0.3, "f1": 0.2}}}}
    }
    like = SimpleNamespace(manifest=model.manifest, model_id=model.model_id, files=model.files, metrics=told)
    new = recalibrated(like, config_of("set_thresholds.energy=0.25"), None)
    dev = json.loads(new.files[METRICS])["splits"]["dev"]
    assert dev == {"overall": {"map": 0.5, "macro_f1": None}, "per_label": {"energy": {"ap": 0.3, "f1": None}}}


def test_drift_is_held_against_the_rows_that_fitted_as_they_are_judged_now(model, rows):
    made, _ = made_of(model, rows, "extract=x", "calibrator=platt", "thresholds=common")
    probabilities, decisions = Parameters.of(made.manifest).decide(rows.logits)
    found = training_reference(made.metrics)
    for at, label in enumerate(LABELS):
        of_label = found["probability", label]
        assert (of_label.companies, of_label.over) == (1500, decisions[:, at].sum())
        assert of_label.counts == probability_counts(count_probabilities(probabilities.astype(np.float32))[at])
    mix = found["mix", None]
    assert (mix.companies, mix.counts) == (1500, dict(zip(LABELS, decisions.sum(axis=0).tolist(), strict=True)))


def test_drift_under_a_set_threshold_is_held_against_what_still_holds(model, rows):
    fitted, _ = made_of(model, rows, "extract=x", "calibrator=platt", "thresholds=common")
    made, _ = made_of(fitted, None, "set_thresholds.energy=0.25")
    old, new = training_reference(fitted.metrics), training_reference(made.metrics)
    assert {key: one.counts for key, one in new.items()} == {
        key: one.counts for key, one in old.items() if key != ("mix", None)
    }
    assert [label for (_, label), one in new.items() if one.over is None] == ["energy"]
    same, _ = made_of(made, None, "set_thresholds.energy=0.25")  # once more, from what it then has
    assert training_reference(same.metrics) == new
    assert training_reference(made_of(model, None, "set_thresholds.energy=0.25")[0].metrics) == {}  # it tells nothing


def test_the_threshold_that_stands_already_makes_no_new_model(model):
    made, _ = made_of(model, None, "set_thresholds.energy=0.5")
    assert made.model_id == model.model_id


def test_weights_that_are_not_told_are_taken_from_the_calibration(model, rows):
    made, _ = made_of(model, rows, "extract=x", "calibrator=temperature")
    np.testing.assert_allclose(log_pos_weights(model), WEIGHTS)
    silent = SimpleNamespace(manifest=made.manifest, metrics={})
    np.testing.assert_allclose(log_pos_weights(silent), WEIGHTS)


def test_rows_that_the_model_has_learned_from_do_not_fit(tiny_folder, companies, tmp_path):
    made = load_artifact(variant(tiny_artifact(tiny_folder), tmp_path / "made", seen=seen_of(companies)))
    record = read_extract_record(companies)
    learned, others = (_labelled(str(companies), record, split) for split in ("train", "dev"))
    kept = _not_learned(seen_by(made), record, [*learned, *others])
    assert [row["text_hash"] for row in kept] == [row["text_hash"] for row in others]
    assert len(_not_learned(None, record, learned)) == len(learned)


def test_all_faults_are_named_together(model, companies, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    (tmp_path / "extract" / DATA).mkdir(parents=True)
    record = json.loads((companies / RECORD).read_text())
    record |= {"template": "{name}", "labels": [one for one in record["labels"] if one["name"] != "media"]}
    (tmp_path / "extract" / RECORD).write_text(json.dumps(record))
    settings = [f"extract={tmp_path / 'extract'}", "set_thresholds={fintec: .4, wood: .5}"]
    with pytest.raises(ConfigError) as caught:
        check(config_of(*settings, out=tmp_path / "used"), model)
    expected = ["'fintec'; did you mean 'fintech'?", "'wood'", TEMPLATE, "lacks: 'media'", "absent or empty"]
    assert len(caught.value.errors) == len(expected)
    for fault, part in zip(caught.value.errors, expected, strict=True):
        assert part in fault
    with pytest.raises(ConfigError, match=r"found none in '/no/where'"):
        check(config_of("extract=/no/where", "calibrator=platt", out=tmp_path / "new"), model)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ([], "nothing would change"),
        (["extract=x"], "nothing would change"),
        (["calibrator=platt"], "nothing would change"),
        (["set_thresholds.energy=1.5"], "set_thresholds.energy: "),
        (["extract=x", "calibrator=platt", "split=train"], "split: "),
    ],
)
def test_wrong_settings_are_refused(settings, fault):
    with pytest.raises(ConfigError) as caught:
        config_of(*settings)
    assert any(fault in one for one in caught.value.errors)
