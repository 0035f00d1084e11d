"""Figures and intervals against scikit-learn, hand-computed cases and degenerate labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from ptec_training.calibrate.calibration import Calibration
from ptec_training.evaluate.metrics import (
    average_precision,
    bootstrap,
    calibration_error,
    f1,
    interval,
    mean_of_defined,
)
from ptec_training.evaluate.report import curves, report_on

SAME = Calibration(np.ones(8), np.zeros(8))
LABELS = [f"label {i}" for i in range(8)]
HALF = np.full(8, 0.5)


@pytest.fixture
def cells():
    """Logits and targets of 300 rows and 8 labels; the first never occurs, the last always does."""
    random = np.random.default_rng(0)
    targets = random.random((300, 8)) < np.linspace(0.02, 0.3, 8)
    targets[:, 0], targets[:, 7] = False, True
    return np.round(random.normal(-1.5, 1.5, (300, 8)) + 2 * targets, 1), targets


def one_label(logits: list[float], targets: list[int]):
    """Report on one label at threshold 0.5 without calibration."""
    columns = (np.array(values, float)[:, None] for values in (logits, targets))
    return report_on(*columns, Calibration(np.ones(1), np.zeros(1)), np.array([0.5]), ["a"])


class TestReport:
    def test_overall_equals_scikit_learn(self, cells) -> None:
        logits, targets = cells
        overall = report_on(logits, targets, SAME, HALF, LABELS)["overall"]
        decisions, occur = logits >= 0, slice(1, None)
        expected = {
            "n_labels_that_occur": 7,
            "macro_f1": f1_score(targets[:, occur], decisions[:, occur], average="macro"),
            "micro_f1": f1_score(targets, decisions, average="micro"),
            "map": average_precision_score(targets[:, occur], logits[:, occur], average="macro"),
            "brier": np.mean((expit(logits) - targets) ** 2),
        }
        assert {name: overall[name] for name in expected} == pytest.approx(expected, abs=1e-6)

    def test_labels_equal_scikit_learn(self, cells) -> None:
        logits, targets = cells
        per_label = report_on(logits, targets, SAME, HALF, LABELS)["per_label"]
        for i in range(1, 7):
            y, decided = targets[:, i], logits[:, i] >= 0
            expected = {
                "positives": y.sum(),
                "f1": f1_score(y, decided),
                "precision": precision_score(y, decided),
                "recall": recall_score(y, decided),
                "ap": average_precision_score(y, logits[:, i]),
            }
            assert {name: per_label[LABELS[i]][name] for name in expected} == pytest.approx(expected, abs=1e-6)

    def test_absent_label_is_none_and_not_averaged(self) -> None:
        report = one_label([1.0, -1.0, -2.0], [0, 0, 0])
        assert [report["per_label"]["a"][name] for name in ("f1", "recall", "ap")] == [None] * 3
        assert [report["overall"][name] for name in ("macro_f1", "micro_f1", "map")] == [None] * 3

    def test_ranking_is_not_saturated(self) -> None:
        assert one_label([900.0, 800.0, 700.0], [1, 0, 0])["overall"]["map"] == 1.0

    def test_brier_skill_compares_with_the_base_rates(self, cells) -> None:
        logits, targets = cells
        rates = np.full(8, 0.25)
        overall = report_on(logits, targets, SAME, HALF, LABELS, base_rates=rates)["overall"]
        expected = 1 - np.mean((expit(logits) - targets) ** 2) / np.mean((rates - targets) ** 2)
        assert overall["brier_skill"] == pytest.approx(expected, abs=1e-5)


class TestCalibrationError:
    def test_of_perfect_probabilities_is_that_by_chance(self) -> None:
        random = np.random.default_rng(5)
        p = random.beta(0.5, 4.0, (1500, 20))
        error, by_chance, n_cells = calibration_error(p, random.random(p.shape) < p)
        assert error == pytest.approx(by_chance, rel=0.5)
        assert n_cells == (p >= 0.05).sum()

    def test_of_doubled_probabilities_is_half_of_them(self) -> None:
        random = np.random.default_rng(6)
        p = random.uniform(0.1, 0.45, (5000, 4))
        error, _, _ = calibration_error(2 * p, random.random(p.shape) < p)
        assert error == pytest.approx(p.mean(), rel=0.05)

    def test_without_cells_is_undefined(self) -> None:
        assert np.isnan(calibration_error(np.full((3, 2), 0.01), np.zeros((3, 2)))[0])


class TestCurves:
    def test_points_are_true_and_even_over_recall(self) -> None:
        random = np.random.default_rng(2)
        positive = random.random((600, 20)) < 0.05
        probabilities = np.clip(0.3 * positive + random.beta(1, 12, positive.shape), 0, 1).round(4)
        points = curves(probabilities, positive)["precision_recall"]
        assert 40 <= len(points) <= 50
        for threshold, precision, recall in points:
            found = probabilities >= threshold
            assert precision == round(float(positive[found].mean()), 4)
            assert recall == round(float(found[positive].mean()), 4)
        assert max(np.diff([0.0, *(recall for _, _, recall in points[::-1])])) < 0.05


class TestBootstrap:
    def test_equals_scikit_learn_on_the_drawn_rows(self, cells) -> None:
        """A weighted figure is that of rows repeated as often as they are drawn."""
        logits, targets = cells
        ap, of_f1 = (
            bootstrap(measure, 300) for measure in (average_precision(logits, targets), f1(logits >= 0, targets))
        )
        weights = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), size=5)
        for at, weight in enumerate(weights):
            drawn = np.repeat(np.arange(300), weight)
            labels = np.flatnonzero(targets[drawn].any(axis=0))
            y, scores = targets[drawn][:, labels], logits[drawn][:, labels]
            assert mean_of_defined(ap)[at] == pytest.approx(average_precision_score(y, scores, average="macro"))
            assert mean_of_defined(of_f1)[at] == pytest.approx(f1_score(y, scores >= 0, average="macro"))
        assert np.isnan(ap[:, 0]).all()

    def test_interval_is_centred(self) -> None:
        low, high = interval(np.random.default_rng(0).normal(3.0, 1.0, 5000), 0.5)
        assert (low, high) == (pytest.approx(0.5 - 1.96, abs=0.1), pytest.approx(0.5 + 1.96, abs=0.1))
