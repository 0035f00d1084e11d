"""What validation decided, carried over to a model whose positives weighed otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from training.calibrate.calibrate import fit_platt
from training.calibrate.decide import Decisions

BEFORE, AFTER = np.log([1.0, 4.0, 9.0]), np.log([2.0, 4.0, 3.0])


@pytest.fixture
def decisions():
    random = np.random.default_rng(0)
    targets = random.random((400, 3)) < 0.3
    logits = 2 * targets - 1 + random.normal(size=(400, 3))
    return Decisions(fit_platt(logits, targets, BEFORE), 0.4, np.full(3, 0.4))


def test_moved_decisions_undo_the_new_weights(decisions):
    unweighted = np.array([[-1.0, 0.5, 2.0]])
    expected = decisions.calibration.probabilities(unweighted + BEFORE)
    moved = decisions.moved(BEFORE, AFTER)
    found = moved.calibration.probabilities(unweighted + AFTER)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_moved_threshold_is_the_same_logit(decisions):
    moved = decisions.moved(BEFORE, AFTER)
    np.testing.assert_array_equal(moved.threshold_logits, decisions.threshold_logits)
    at_threshold = moved.calibration.probabilities(moved.threshold_logits[None])[0]
    np.testing.assert_allclose(moved.thresholds, at_threshold, rtol=1e-12)
    assert moved.thresholds[0] < decisions.thresholds[0]  # heavier positives lift logits that mean the same
    assert moved.thresholds[1] == pytest.approx(decisions.thresholds[1])
