"""Points of precision over recall: true ones, spread evenly over recall."""

from __future__ import annotations

import numpy as np

from training.evaluate.curves import curves


def points_of(probabilities: np.ndarray, positive: np.ndarray) -> list[list[float]]:
    nothing = np.zeros(0, np.intp)
    return curves(probabilities, positive, nothing, np.zeros(positive.shape, bool))["precision_recall"]


def test_points_are_those_of_their_thresholds_and_even_over_recall() -> None:
    random = np.random.default_rng(2)
    positive = random.random((600, 20)) < 0.05
    probabilities = np.clip(0.3 * positive + random.beta(1, 12, positive.shape), 0, 1).round(4)
    points = points_of(probabilities, positive)
    assert 40 <= len(points) <= 50
    for threshold, precision, recall in points:
        found = probabilities >= threshold
        assert precision == round(float(positive[found].mean()), 4)
        assert recall == round(float(found[positive].mean()), 4)
    recalls = [0.0, *(recall for _, _, recall in points[::-1])]
    assert recalls[-1] == 1
    assert max(np.diff(recalls)) < 0.05


def test_a_false_label_above_all_true_ones_is_no_point_without_recall() -> None:
    points = points_of(np.array([[0.9], [0.8], [0.1]]), np.array([[False], [True], [False]]))
    assert points == [[0.8, 0.5, 1.0]]


def test_equal_probabilities_are_one_point_and_no_positives_none() -> None:
    assert points_of(np.full((4, 1), 0.5), np.array([[True], [False], [False], [True]])) == [[0.5, 0.5, 1.0]]
    assert points_of(np.full((4, 1), 0.5), np.zeros((4, 1), bool)) == []
