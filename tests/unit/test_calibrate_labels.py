"""Lines of their own for labels, drawn towards the shared one."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from training.calibrate.calibrate import fit_platt
from training.calibrate.calibrate_labels import own_lines
from training.calibrate.shrunk import fit_shrunk

NO_WEIGHTS = np.zeros(3)


def cells_of_lines(n_rows, scales, offsets, seed=0):
    """Logits whose true log-odds are one line a label."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1.0, 2.0, (n_rows, len(scales)))
    return logits, random.random(logits.shape) < expit(np.asarray(scales) * logits + np.asarray(offsets))


def test_labels_that_differ_get_lines_of_their_own():
    scales, offsets = np.array([0.5, 1.0, 2.0]), np.array([1.0, 0.0, -2.0])
    logits, targets = cells_of_lines(2000, scales, offsets)
    calibration, report = fit_shrunk(own_lines, logits, targets, NO_WEIGHTS)
    shared = fit_platt(logits, targets, NO_WEIGHTS)
    assert report["difference"] > report["needed"] > 0
    assert abs(calibration.scale - scales).max() < abs(shared.scale - scales).max() / 2
    assert abs(calibration.offset - offsets).max() < abs(shared.offset - offsets).max() / 2


def test_equal_labels_share_their_line():
    logits, targets = cells_of_lines(200, np.ones(3), np.zeros(3))
    calibration, report = fit_shrunk(own_lines, logits, targets, NO_WEIGHTS)
    shared = fit_platt(logits, targets, NO_WEIGHTS)
    assert report["chosen"] is None
    np.testing.assert_array_equal(calibration.scale, shared.scale)
    np.testing.assert_array_equal(calibration.offset, shared.offset)


def test_label_without_positives_stays_finite_and_near_the_shared_line():
    logits, targets = cells_of_lines(1000, [0.5, 1.0, 2.0], [1.0, 0.0, -2.0])
    targets[:, 1] = False
    calibration, report = fit_shrunk(own_lines, logits, targets, NO_WEIGHTS)
    assert report["chosen"] is not None
    probabilities = calibration.probabilities(logits)
    assert np.isfinite(probabilities).all()
    assert probabilities[:, 1].mean() < probabilities[:, 0].mean()


def test_weights_of_positives_make_no_difference():
    """They are a shift of the logits, and every line undoes it."""
    weights = np.log([2.0, 9.0, 4.0])
    logits, targets = cells_of_lines(1000, [0.5, 1.0, 2.0], [1.0, 0.0, -2.0])
    plain, _ = fit_shrunk(own_lines, logits, targets, NO_WEIGHTS)
    shifted, _ = fit_shrunk(own_lines, logits + weights, targets, weights)
    np.testing.assert_allclose(shifted.probabilities(logits + weights), plain.probabilities(logits), atol=1e-6)


def test_more_positives_are_shrunk_less():
    """Corrections by Newton's method are where scikit-learn's penalised regression finds them."""
    logits, targets = cells_of_lines(800, [0.6, 1.5, 1.0], [0.5, -1.0, 0.0])
    shared = fit_platt(logits, targets, NO_WEIGHTS)
    found = own_lines(shared, logits, targets, strength=20.0)
    log_odds = shared.scale * logits + shared.offset
    doubt = expit(log_odds) * expit(-log_odds)
    for label in range(3):
        centre = np.average(log_odds[:, label], weights=doubt[:, label])
        width = np.sqrt(np.average((log_odds[:, label] - centre) ** 2, weights=doubt[:, label]))
        x = (log_odds[:, label] - centre) / width

        def loss(ab, label=label, x=x):
            u = log_odds[:, label] + ab[1] + ab[0] * x
            return (np.logaddexp(0, u) - targets[:, label] * u).sum() + 10 * (ab**2).sum()

        a, b = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}).x
        expected = log_odds[:, label] + b + a * x
        np.testing.assert_allclose(found.scale[label] * logits[:, label] + found.offset[label], expected, atol=1e-4)


def test_order_of_a_label_stays():
    logits, targets = cells_of_lines(500, [-1.0, 1.0, 1.0], np.zeros(3))  # the first is learned the wrong way round
    calibration, _ = fit_shrunk(own_lines, logits, targets, NO_WEIGHTS)
    assert (calibration.scale > 0).all()
