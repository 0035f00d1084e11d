"""A curve for all labels in place of a line, and what bends log-odds in NumPy and in Spark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import expit

from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.calibration import bend
from ptec_udf.model.manifest import Manifest, Point
from tests.tiny import tiny_artifact
from training.calibrate.calibrate import Calibration, fit_platt
from training.calibrate.calibrate_curve import bent_line
from training.calibrate.shrunk import fit_shrunk

CURVE = [(-3.0, -4.0), (0.0, 1.0), (2.0, 1.5)]


def cells_of_a_curve(n_rows: int, curve: list[Point] | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logits whose true log-odds are on a curve."""
    random = np.random.default_rng(3)
    logits = random.normal(-1.0, 2.0, (n_rows, 4))
    return logits, random.random(logits.shape) < expit(bend(logits, curve, np.clip))


def error_of(calibration: Calibration, logits: NDArray[np.float64], curve: list[Point]) -> float:
    """Mean distance of probabilities to the true ones."""
    return float(np.abs(calibration.probabilities(logits) - expit(bend(logits, curve, np.clip))).mean())


def test_log_odds_go_through_the_points_and_on_beyond_them() -> None:
    values = np.array([-5.0, -3.0, -1.5, 0.0, 1.0, 2.0, 7.0])
    np.testing.assert_allclose(bend(values, CURVE, np.clip), [-6.0, -4.0, -1.5, 1.0, 1.25, 1.5, 6.5])
    assert bend(values, None, np.clip) is values


def test_logits_are_found_again_from_log_odds() -> None:
    calibration = Calibration(np.array([0.5, 2.0]), np.array([1.0, -1.0]), CURVE)
    logits = np.linspace(-9, 9, 40).reshape(20, 2)
    np.testing.assert_allclose(calibration.logits(calibration.log_odds(logits)), logits)


def test_a_bend_in_the_cells_is_found() -> None:
    logits, targets = cells_of_a_curve(3000, CURVE)
    calibration, report = fit_shrunk(bent_line, logits, targets, np.zeros(4))
    line = fit_platt(logits, targets, np.zeros(4))
    assert report["difference"] > report["needed"] > 0
    assert error_of(calibration, logits, CURVE) < error_of(line, logits, CURVE) / 3
    for label in range(4):
        by_logit = calibration.probabilities(logits)[np.argsort(logits[:, label]), label]
        assert (np.diff(by_logit) > 0).all()


def test_cells_on_a_line_keep_it() -> None:
    logits, targets = cells_of_a_curve(300, None)
    calibration, report = fit_shrunk(bent_line, logits, targets, np.zeros(4))
    assert report["chosen"] is None
    assert calibration.curve is None


def test_steps_have_as_many_positives_as_asked_and_give_their_share() -> None:
    """Of three steps of 10, 20 and 40 positives, the lower two are one where 20 are asked for."""
    logits = np.repeat([-2.0, 0.0, 1.0], 100)[:, None]
    positive = np.concatenate([np.arange(100) < n for n in (10, 20, 40)])[:, None]
    line = Calibration(np.ones(1), np.zeros(1))
    each, joined = (bent_line(line, logits, positive, strength) for strength in (10.0, 20.0))
    np.testing.assert_allclose(expit(each.curve), [[expit(-2), 0.1], [expit(0), 0.2], [expit(1), 0.4]])
    np.testing.assert_allclose(each.probabilities(logits).sum(), positive.sum())
    np.testing.assert_allclose(expit(joined.curve), [[(expit(-2) + expit(0)) / 2, 0.15], [expit(1), 0.4]])


@pytest.mark.parametrize("strength", [10.0, 50.0])
def test_too_few_positives_or_probabilities_that_are_certain_leave_the_line(strength: float) -> None:
    few = np.eye(4, dtype=bool)
    line = Calibration(np.ones(4), np.zeros(4))
    assert bent_line(line, np.where(few, 2.0, -2.0), few, strength).curve is None
    certain = np.where(np.tile(few, (200, 1)), 2000.0, -2000.0)
    wrong_for_some = np.tile(few, (200, 1)) ^ (np.arange(800) % 5 == 0)[:, None]
    assert bent_line(line, certain, wrong_for_some, strength).curve is None


@pytest.mark.parametrize("curve", [[(0.0, 0.0)], [(0.0, 0.0), (0.0, 1.0)], [(0.0, 1.0), (1.0, 1.0)]])
def test_a_curve_that_does_not_rise_is_refused(tiny_folder: Path, curve: list[Point]) -> None:
    values = load_artifact(tiny_artifact(tiny_folder)).manifest.model_dump()
    assert Manifest.model_validate(values | {"curve": CURVE}).curve == CURVE
    with pytest.raises(ValidationError, match="curve"):
        Manifest.model_validate(values | {"curve": curve})
