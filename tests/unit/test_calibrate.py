"""Calibration, thresholds and decisions, against known answers and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from ptec_training.calibrate.calibration import Calibration, fit_platt
from ptec_training.calibrate.decisions import fit_decisions
from ptec_training.calibrate.thresholds import PLATEAU, SHRINKAGE, common_threshold, per_label_thresholds
from ptec_training.evaluate.metrics import macro_f1

Cells = tuple[NDArray[np.float64], NDArray[np.bool_]]


def noisy_cells(n_rows: int = 400, n_labels: int = 12, seed: int = 0) -> Cells:
    random = np.random.default_rng(seed)
    targets = random.random((n_rows, n_labels)) < random.uniform(0.01, 0.2, n_labels)
    return random.normal(-2.0, 1.5, (n_rows, n_labels)) + 2.5 * targets, targets


class TestCalibration:
    def test_is_a_line_on_log_odds(self) -> None:
        values = np.array([-5.0, 0.0, 7.0])
        line = Calibration(np.full(3, 2.0), np.ones(3))
        np.testing.assert_allclose(line.probabilities(values), expit(2 * values + 1))
        np.testing.assert_allclose(line.logits(line.probabilities(values)), values)

    @pytest.mark.parametrize("logit", [-1e4, 1e4])
    def test_thresholds_stay_open_in_float32(self, logit: float) -> None:
        assert 0 < Calibration(np.ones(1), np.zeros(1)).thresholds(logit).astype(np.float32)[0] < 1


class TestPlatt:
    def test_recovers_the_line_and_undoes_pos_weight(self) -> None:
        random = np.random.default_rng(1)
        log_pos_weight = np.log(np.linspace(1.0, 12.0, 10))
        logits = random.normal(0.0, 2.0, (20_000, 10)) + log_pos_weight
        targets = random.random(logits.shape) < expit(0.7 * (logits - log_pos_weight) - 1.5)
        calibration = fit_platt(logits, targets, log_pos_weight)
        np.testing.assert_allclose(calibration.scale, 0.7, atol=0.02)
        np.testing.assert_allclose(calibration.offset, -1.5 - 0.7 * log_pos_weight, atol=0.05)

    @pytest.mark.parametrize(
        ("logits", "targets"),
        [
            ([[0.0, 1.0], [2.0, 3.0]], [[0, 0], [0, 0]]),
            ([[0.0, 1.0], [2.0, 3.0]], [[1, 1], [1, 1]]),
            ([[0.0, 0.0], [0.0, 0.0]], [[1, 0], [0, 1]]),
            ([[0.0, 1.0], [2.0, 3.0]], [[1, 1], [0, 0]]),
        ],
    )
    def test_only_undoes_pos_weight_without_a_rising_line(self, logits, targets, capsys) -> None:
        weights = np.log([2.0, 4.0])
        calibration = fit_platt(np.array(logits) + weights, np.array(targets), weights)
        assert "only undoes pos_weight" in capsys.readouterr().err
        np.testing.assert_array_equal(calibration.scale, [1.0, 1.0])
        np.testing.assert_allclose(calibration.offset, -weights)


class TestCommonThreshold:
    def test_is_as_good_as_any_other(self) -> None:
        logits, targets = noisy_cells(seed=5)
        best = max(macro_f1(logits >= t, targets) for t in np.unique(logits))
        assert macro_f1(logits >= common_threshold(logits, targets), targets) >= best - PLATEAU - 1e-9


class TestPerLabelThresholds:
    @staticmethod
    def cells(seed: int) -> Cells:
        random, shifts = np.random.default_rng(seed), np.array([-3.0, 0.0, 3.0])
        targets = random.random((1500, 3)) < 0.2
        return random.normal(size=targets.shape) + 3.0 * targets + shifts, targets

    def test_help_labels_that_differ(self) -> None:
        thresholds, common = (fit(*self.cells(0)) for fit in (per_label_thresholds, common_threshold))
        logits, targets = self.cells(1)
        assert macro_f1(logits >= thresholds, targets) > macro_f1(logits >= common, targets) + 0.1

    def test_shrink_by_the_number_of_positives(self) -> None:
        logits, targets = self.cells(0)
        targets[:, 1] = False
        targets[int(np.flatnonzero(targets[:, 2])[int(SHRINKAGE)]) :, 2] = False
        found, common = per_label_thresholds(logits, targets), common_threshold(logits, targets)
        assert found[1] == common
        assert found[2] == pytest.approx((common + common_threshold(logits[:, [2]], targets[:, [2]])) / 2)


class TestDecisions:
    WEIGHTS = np.log(np.arange(1.0, 13.0))

    @pytest.mark.parametrize("thresholds", ["common", "per_label"])
    def test_decide_as_the_thresholds_on_the_logits(self, thresholds) -> None:
        logits, targets = noisy_cells()
        found = fit_decisions(logits, targets, self.WEIGHTS, thresholds)
        on_logits = per_label_thresholds(logits, targets) if thresholds == "per_label" else found.common_threshold
        np.testing.assert_array_equal(found.decide(logits), logits >= on_logits)
        np.testing.assert_allclose(found.threshold_logits, np.broadcast_to(on_logits, 12), atol=1e-6)

    def test_adjust_for_other_class_weights(self) -> None:
        logits, targets = noisy_cells()
        before, after = self.WEIGHTS, np.zeros(12)
        decisions = fit_decisions(logits, targets, before)
        adjusted = decisions.adjust_for_class_weights(before, after)
        same = adjusted.calibration.probabilities(logits - before + after)
        np.testing.assert_allclose(same, decisions.calibration.probabilities(logits), rtol=1e-6)
        np.testing.assert_allclose(adjusted.threshold_logits, decisions.threshold_logits)
