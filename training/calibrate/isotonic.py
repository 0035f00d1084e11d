"""Isotonic calibration: one curve for all labels on top of pooled Platt scaling.

Source: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
The curve is linear between the means of the isotonic steps, so equal steps do not turn different logits into ties.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from training.calibrate.calibration import Calibration, check_cells
from training.calibrate.platt import fit_platt

_MIN_POSITIVES = 20  # positives of a bin: fewer make the ends of the curve noise


def fit_isotonic(
    logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> Calibration:
    """Fit the curve to bins with equal numbers of positives; too few positives for two bins keep the line.

    Arguments and errors as in ``fit_platt``.
    """
    raw, positive = check_cells(logits, targets)
    line = fit_platt(raw, positive, log_pos_weight)
    probabilities, hits = expit(line.log_odds(raw)).ravel(), positive.ravel()
    order = np.argsort(-probabilities, kind="stable")
    probabilities, hits = probabilities[order], hits[order]
    n_bins = int(hits.sum()) // _MIN_POSITIVES
    bins = np.minimum((np.cumsum(hits) - hits) // _MIN_POSITIVES, max(n_bins - 1, 0))
    n, total, found = (np.bincount(bins, weights) for weights in (None, probabilities, hits))
    means = total / n
    steps = IsotonicRegression().fit_transform(means, (found + 1) / (n + 2), sample_weight=n)
    points = []
    for step in np.unique(steps):
        inside = steps == step
        points.append((float(logit(np.average(means[inside], weights=n[inside]))), float(logit(step))))
    is_curve = len(points) > 1 and bool(np.isfinite(points).all()) and bool((np.diff(points, axis=0) > 0).all())
    return replace(line, curve=points) if is_curve else line
