"""Calibration by one line, against known answers and hand-made cases."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
from scipy.special import expit

from ptec_udf.errors import TrainingError
from training.calibrate.calibrate import (
    Calibration,
    fit_none,
    fit_platt,
    fit_temperature,
    threshold_probabilities,
)
from training.calibrate.thresholds import common_threshold


def noisy_cells(n_rows=400, n_labels=12, seed=0):
    random = np.random.default_rng(seed)
    targets = random.random((n_rows, n_labels)) < random.uniform(0.01, 0.2, n_labels)
    return random.normal(-2.0, 1.5, (n_rows, n_labels)) + 2.5 * targets, targets


def test_probability_is_sigmoid_of_a_line_per_label():
    calibration = Calibration(np.array([1.0, 2.0]), np.array([0.0, -1.0]))
    probabilities = calibration.probabilities(np.array([[0.0, 0.5], [np.log(3), 1.0]], np.float32))
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, [[0.5, 0.5], [0.75, expit(1.0)]], atol=1e-7)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_calibration_refuses_a_slope_that_would_change_the_order(scale):
    with pytest.raises(ValueError, match="over 0"):
        Calibration(np.array([1.0, scale]), np.zeros(2))


def test_calibration_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\)"):
        Calibration(np.ones(2), np.zeros(3))


def test_calibration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Calibration(np.ones(1), np.zeros(1)).scale = np.zeros(1)


def test_platt_recovers_the_line_that_made_the_targets():
    random = np.random.default_rng(1)
    log_pos_weight = np.log(np.linspace(1.0, 12.0, 10))
    logits = random.normal(0.0, 2.0, (20_000, 10)) + log_pos_weight
    targets = random.random(logits.shape) < expit(0.7 * (logits - log_pos_weight) - 1.5)
    calibration = fit_platt(logits, targets, log_pos_weight)
    np.testing.assert_allclose(calibration.scale, 0.7, atol=0.02)
    np.testing.assert_allclose(calibration.offset, -1.5 - 0.7 * log_pos_weight, atol=0.05)


def test_platt_keeps_the_sum_of_the_smoothed_targets():
    logits, targets = noisy_cells()
    total = fit_platt(logits, targets, np.zeros(12)).probabilities(logits).sum()
    n_positive, n_negative = targets.sum(), (~targets).sum()
    smoothed = n_positive * (n_positive + 1) / (n_positive + 2) + n_negative / (n_negative + 2)
    assert total == pytest.approx(smoothed, rel=1e-5)


def test_platt_stays_finite_where_classes_are_separated():
    calibration = fit_platt(np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([[0], [0], [1], [1]]), np.zeros(1))
    assert 0 < calibration.scale[0] < 10
    assert calibration.offset[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("fit", [fit_none, fit_platt, fit_temperature])
def test_calibrator_keeps_the_order_of_a_label(fit):
    logits, targets = noisy_cells()
    probabilities = fit(logits, targets, np.log(np.arange(1.0, 13.0))).probabilities(logits)
    np.testing.assert_array_equal(np.argsort(probabilities, axis=0), np.argsort(logits, axis=0))


@pytest.mark.parametrize(
    ("logits", "targets", "reason"),
    [
        ([[0.0, 1.0], [2.0, 3.0]], [[0, 0], [0, 0]], "none of 4 cells is positive"),
        ([[0.0, 1.0], [2.0, 3.0]], [[1, 1], [1, 1]], "none of 4 cells is negative"),
        ([[0.0, 0.0], [0.0, 0.0]], [[1, 0], [0, 1]], "all 4 logits are equal"),
        ([[0.0, 1.0], [2.0, 3.0]], [[1, 1], [0, 0]], "is not over 0"),
    ],
)
def test_platt_falls_back_and_says_why(logits, targets, reason, caplog):
    with caplog.at_level(logging.WARNING, "training.calibrate.calibrate"):
        calibration = fit_platt(np.array(logits), np.array(targets), np.zeros(2))
    assert reason in caplog.text
    np.testing.assert_array_equal(calibration.scale, [1.0, 1.0])
    np.testing.assert_array_equal(calibration.offset, [0.0, 0.0])


def test_fallback_still_undoes_pos_weight(caplog):
    calibration = fit_platt(np.arange(6.0).reshape(3, 2), np.zeros((3, 2)), np.log([2.0, 4.0]))
    assert caplog.records
    np.testing.assert_allclose(calibration.offset, -np.log([2.0, 4.0]))


def test_none_undoes_pos_weight_only():
    calibration = fit_none(np.zeros((1, 2)), np.zeros((1, 2)), np.log([1.0, 9.0]))
    np.testing.assert_array_equal(calibration.scale, [1.0, 1.0])
    np.testing.assert_allclose(calibration.probabilities(np.log([[1.0, 9.0]])), [[0.5, 0.5]])


def test_shapes_that_differ_are_refused():
    with pytest.raises(TrainingError, match=r"\(3, 2\), \(2, 3\)"):
        fit_platt(np.zeros((3, 2)), np.zeros((2, 3)), np.zeros(2))


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(TrainingError, match="1 of 4"):
        fit_platt(np.array([[0.0, np.nan], [1.0, 2.0]]), np.eye(2), np.zeros(2))


def test_threshold_probabilities_decide_as_the_logit_threshold():
    logits, targets = noisy_cells()
    calibration = fit_platt(logits, targets, np.log(np.arange(1.0, 13.0)))
    threshold = common_threshold(logits, targets)
    thresholds = threshold_probabilities(threshold, calibration)
    assert thresholds.shape == (12,)
    np.testing.assert_array_equal(calibration.probabilities(logits) >= thresholds, logits >= threshold)


@pytest.mark.parametrize("threshold", [-1e4, 1e4])
def test_threshold_probabilities_stay_open_in_float32(threshold):
    thresholds = threshold_probabilities(threshold, Calibration(np.ones(1), np.zeros(1))).astype(np.float32)
    assert 0 < thresholds[0] < 1


def test_temperature_recovers_the_scale_that_made_the_targets():
    random = np.random.default_rng(2)
    log_pos_weight = np.log(np.linspace(1.0, 12.0, 10))
    logits = random.normal(-1.0, 2.0, (20_000, 10)) + log_pos_weight
    targets = random.random(logits.shape) < expit(0.4 * (logits - log_pos_weight))
    calibration = fit_temperature(logits, targets, log_pos_weight)
    np.testing.assert_allclose(calibration.scale, 0.4, atol=0.01)
    np.testing.assert_array_equal(calibration.offset, -calibration.scale * log_pos_weight)


def test_temperature_undoes_a_scale_and_leaves_one_half_where_it_is():
    logits, targets = noisy_cells()
    weights = np.log(np.arange(1.0, 13.0))
    plain = fit_temperature(logits + weights, targets, weights)
    thrice = fit_temperature(3 * logits + weights, targets, weights)
    np.testing.assert_allclose(thrice.scale, plain.scale / 3, rtol=1e-4)
    np.testing.assert_allclose(plain.probabilities(weights[None]), 0.5)
