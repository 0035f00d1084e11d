"""One threshold for all labels, and thresholds of their own, against known answers and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from ptec_udf.errors import TrainingError
from tests.unit.test_calibrate import noisy_cells
from training.calibrate.thresholds import PLATEAU, common_threshold, fit_thresholds
from training.evaluate.metrics import macro_f1


def test_threshold_of_separated_classes_is_halfway():
    logits = np.array([[-3.0, 2.0], [2.0, -3.0], [-2.0, 2.0]])
    assert common_threshold(logits, logits > 0) == pytest.approx(0.0)


def test_threshold_stays_at_the_best_candidate_where_the_next_costs_more_than_the_plateau():
    logits = np.append(np.linspace(1.0, 3.0, 30), -5.0)[:, None]
    # Missing one of 30 positives costs 1/59, so only the candidate between -5 and 1 is left.
    assert common_threshold(logits, logits > 0) == pytest.approx(-2.0)


def test_threshold_is_the_middle_of_the_plateau():
    logits = np.append(np.linspace(1.0, 3.0, 1600), -5.0)[:, None]
    # Missing k of 1,600 positives costs k / (3,200 - k): k = 0 to 6 lie within PLATEAU, k = 3 is the middle.
    assert common_threshold(logits, logits > 0) == pytest.approx((logits[2, 0] + logits[3, 0]) / 2, abs=1e-9)


def test_threshold_is_as_good_as_any_other_within_the_plateau():
    logits, targets = noisy_cells(seed=5)
    threshold = common_threshold(logits, targets)
    best = max(macro_f1(logits >= t, targets) for t in np.unique(logits))
    assert best - PLATEAU - 1e-9 <= macro_f1(logits >= threshold, targets) <= best + 1e-9


def test_threshold_ignores_labels_that_do_not_occur():
    logits, targets = noisy_cells()
    noise = np.random.default_rng(2).normal(0.0, 3.0, (400, 5))
    with_absent = common_threshold(np.hstack([logits, noise]), np.hstack([targets, np.zeros((400, 5), bool)]))
    assert with_absent == common_threshold(logits, targets)


def test_threshold_does_not_depend_on_the_order_of_rows():
    logits, targets = noisy_cells()
    logits = np.round(logits, 1)
    shuffled = np.random.default_rng(3).permutation(len(logits))
    assert common_threshold(logits[shuffled], targets[shuffled]) == common_threshold(logits, targets)


def test_threshold_takes_in_all_rows_where_all_are_positive():
    logits = np.array([[0.5], [1.5]])
    assert common_threshold(logits, np.ones((2, 1))) < 0.5


def test_threshold_without_positives_is_refused():
    with pytest.raises(TrainingError, match="none among 6 cells"):
        common_threshold(np.zeros((3, 2)), np.zeros((3, 2)))


def cells_of_labels(n_rows, shifts, seed=0):
    """Labels of a fifth of the rows each, whose best thresholds lie where they were shifted to."""
    random = np.random.default_rng(seed)
    targets = random.random((n_rows, len(shifts))) < 0.2
    return random.normal(size=targets.shape) + 3.0 * targets + np.asarray(shifts), targets


def test_labels_that_differ_get_thresholds_of_their_own():
    shifts = np.array([-3.0, 0.0, 3.0])
    logits, targets = cells_of_labels(1500, shifts)
    thresholds, report = fit_thresholds(logits, targets)
    assert report["chosen"] is not None
    assert report["difference"] > report["needed"] > 0
    assert 0 < report["low"] < report["difference"] < report["high"]
    np.testing.assert_allclose(np.diff(thresholds), np.diff(shifts), atol=0.6)
    fresh, truth = cells_of_labels(1500, shifts, seed=1)
    common = common_threshold(logits, targets)
    assert macro_f1(fresh >= thresholds, truth) > macro_f1(fresh >= common, truth) + 0.1


def test_equal_labels_share_their_threshold():
    """Chance makes some other strength look better nearly every time; it is taken in one of forty."""
    n_others = 0
    for seed in range(12):
        logits, targets = cells_of_labels(150, np.zeros(8), seed)
        thresholds, report = fit_thresholds(logits, targets)
        n_others += report["chosen"] is not None
        assert report["chosen"] or (thresholds == common_threshold(logits, targets)).all()
    assert n_others <= 1


def test_label_without_positives_has_the_common_threshold():
    logits, targets = cells_of_labels(1500, [-3.0, 0.0, 3.0])
    targets[:, 1] = False
    thresholds, report = fit_thresholds(logits, targets)
    assert report["chosen"] is not None
    assert thresholds[1] == common_threshold(logits, targets)


def test_too_few_labelled_rows_choose_nothing():
    logits, targets = cells_of_labels(40, [-3.0, 3.0])
    targets[4:] = False
    targets[0] = True
    thresholds, report = fit_thresholds(logits, targets)
    assert report["chosen"] is report["difference"] is None
    assert thresholds[0] == thresholds[1]
