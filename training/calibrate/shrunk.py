"""A calibration that departs from the line of all labels no further than cross-fitting finds it better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.calibrate.calibrate import Calibration, checked_cells, fit_platt
from training.calibrate.cross_fit import STRENGTHS, choose_strength

Correct = Callable[[Calibration, NDArray[np.float64], NDArray[np.bool_], float], Calibration]
"""From the line of all labels, logits and targets, both (n_rows, n_labels), and a strength in positives (infinite: no
departure) to a calibration."""


def fit_shrunk(
    correct: Correct, logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> tuple[Calibration, dict[str, Any]]:
    """Fit the line of all labels, and let cross-fitting decide how far a correction may depart from it.

    Args:
        correct: the correction.
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
        line = fit_platt(raw[fitted], positive[fitted], log_pos_weight)
        corrected = {strength: correct(line, raw[fitted], positive[fitted], strength) for strength in STRENGTHS}
        return {strength: _log_likelihoods(by, raw[judged], positive[judged]) for strength, by in corrected.items()}

    strength, report = choose_strength(fit_and_judge, positive, lambda values, _: float(np.mean(values)))
    return correct(fit_platt(raw, positive, log_pos_weight), raw, positive, strength), report


def _log_likelihoods(
    calibration: Calibration, raw: NDArray[np.float64], positive: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Log-likelihood of each cell, (n_rows, n_labels)."""
    log_odds = calibration.log_odds(raw)
    return positive * log_odds - np.logaddexp(0.0, log_odds)
