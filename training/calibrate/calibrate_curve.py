"""Isotonic calibration: the line of all labels, bent where probabilities are too high or too low.

The steps of isotonic regression (Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass
probability estimates", KDD 2002) are joined until each has positives and negatives enough, and straight pieces lead
from one to the next, so that companies of a label that differ go on to differ.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from ptec_udf.model.manifest import Point, is_rising
from training.calibrate.calibrate import Calibration

_FEWEST_POINTS = 2


def bent_line(line: Calibration, raw: NDArray[np.float64], positive: NDArray[np.bool_], strength: float) -> Calibration:
    """Bend the line so that probabilities are the shares of positives; arguments as for ``Correct`` in shrunk.py.

    A strength is how many positives, and how many negatives, a step has at least. With too few of them for two steps,
    or where all logits of a step are so far out that their probabilities are 0 or 1, the line stays.
    """
    if math.isinf(strength):
        return line
    sure, hits = expit(line.log_odds(raw)).ravel(), positive.ravel().astype(np.float64)
    steps = IsotonicRegression().fit_transform(sure, hits)
    of_step = np.unique(steps, return_inverse=True)[1]
    sums = np.array([np.bincount(of_step, weights) for weights in (hits, 1 - hits, sure)], np.float64).T
    points = [_point(*step) for step in _joined(sums, strength)]
    is_curve = len(points) >= _FEWEST_POINTS and bool(np.isfinite(points).all()) and is_rising(points)
    return replace(line, curve=points) if is_curve else line


def _joined(steps: NDArray[np.float64], least: float) -> list[NDArray[np.float64]]:
    """Join neighbours, from the top, until each has ``least`` positives and negatives; what is over joins the lowest.

    Args:
        steps: positives, negatives and the sum of probabilities of each, rising, *Shape:* ``(n_steps, 3)``.
        least: of both.
    """
    joined: list[NDArray[np.float64]] = []
    pending = np.zeros(3)
    for step in steps[::-1]:
        pending = pending + step
        if min(pending[:2]) >= least:
            joined.append(pending)
            pending = np.zeros(3)
    if joined:
        joined[-1] = joined[-1] + pending
    return joined[::-1]


def _point(positives: float, negatives: float, probabilities: float) -> Point:
    """Say a step in log-odds: what the line gives it on average, and the share of positives."""
    n = positives + negatives
    return float(logit(probabilities / n)), float(logit(positives / n))
