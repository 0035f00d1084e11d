"""Calibration of each label by itself, drawn towards the line that all labels share.

Platt scaling of one label diverges where positives are missing, so a label's own line is a correction of the
shared one with a penalty. The penalty counts in positives: it weighs against the likelihood's curvature, which is
about their number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from training.decisions.calibrate import Calibration, checked_cells, fit_platt
from training.decisions.cross_fit import STRENGTHS, choose_strength

_LEAST_SLOPE = 0.05  # a correction never turns a label's order around


def fit_platt_per_label(
    logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> tuple[Calibration, dict[str, Any]]:
    """Fit a line for each label; cross-fitting decides how far it may be from the shared one.

    Args:
        logits: raw logits of held-out rows, (n_rows, n_labels).
        targets: 0 or 1, (n_rows, n_labels).
        log_pos_weight: natural logarithm of the positive weight that training used, (n_labels,).

    Returns:
        The calibration, and the report of ``choose_strength`` on the mean log-likelihood of a cell.

    Raises:
        TrainingError: when shapes differ or a logit is not finite.
    """
    raw, positive = checked_cells(logits, targets)

    def fit_and_judge(fitted: NDArray[np.intp], judged: NDArray[np.intp]) -> dict[float, NDArray[np.float64]]:
        shared = fit_platt(raw[fitted], positive[fitted], log_pos_weight)
        lines = {strength: _corrected(shared, raw[fitted], positive[fitted], strength) for strength in STRENGTHS}
        return {strength: line.scale * raw[judged] + line.offset for strength, line in lines.items()}

    strength, report = choose_strength(fit_and_judge, positive, _log_likelihood)
    return _corrected(fit_platt(raw, positive, log_pos_weight), raw, positive, strength), report


def _corrected(
    shared: Calibration, raw: NDArray[np.float64], positive: NDArray[np.bool_], strength: float
) -> Calibration:
    """Correct the shared line for each label, by penalised maximum likelihood."""
    if math.isinf(strength):
        return shared
    log_odds = shared.scale * raw + shared.offset
    n_labels = raw.shape[1]

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, intercept = parameters.reshape(2, n_labels)
        corrected = slope * log_odds + intercept
        error = expit(corrected) - positive
        likelihood = (np.logaddexp(0.0, corrected) - positive * corrected).sum()
        penalty = strength / 2 * (np.square(slope - 1).sum() + np.square(intercept).sum())
        of_slope = (error * log_odds).sum(axis=0) + strength * (slope - 1)
        of_intercept = error.sum(axis=0) + strength * intercept
        return likelihood + penalty, np.concatenate([of_slope, of_intercept])

    start = np.concatenate([np.ones(n_labels), np.zeros(n_labels)])
    bounds = [(_LEAST_SLOPE, None)] * n_labels + [(None, None)] * n_labels
    slope, intercept = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x.reshape(2, n_labels)
    return Calibration(slope * shared.scale, slope * shared.offset + intercept)


def _log_likelihood(log_odds: NDArray[np.floating], targets: NDArray[np.generic]) -> float:
    """Mean log-likelihood of a cell; both arguments (n_rows, n_labels)."""
    return -float(np.mean(np.logaddexp(0.0, log_odds) - np.asarray(targets, np.float64) * log_odds))
