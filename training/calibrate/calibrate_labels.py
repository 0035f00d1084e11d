"""Calibration of each label by itself, drawn towards the line that all labels share.

Platt scaling of one label diverges where positives are missing, so a label's own line is a correction of the
shared one with a penalty. The penalty counts in positives: it weighs against the likelihood's curvature, which is
about their number, for the slope too once log-odds are centred and scaled where they are undecided.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from training.calibrate.calibrate import Calibration

_LEAST_SLOPE = 0.05  # a correction never turns a label's order around
_STEPS = 30
_LONGEST_STEP = 1.0  # in log-odds; the likelihood is flat far from its best place, where Newton would jump


def own_lines(
    shared: Calibration, raw: NDArray[np.float64], positive: NDArray[np.bool_], strength: float
) -> Calibration:
    """Correct the shared line for each label, by penalised maximum likelihood and Newton's method.

    Arguments as for ``Correct`` in shrunk.py. Corrected log-odds are u + b + a x, where u are the shared line's and x
    is u centred and scaled; the penalty on each of a and b is half of ``strength`` times its square.
    """
    if math.isinf(strength):
        return shared
    log_odds = shared.log_odds(raw)
    doubt = expit(log_odds) * expit(-log_odds) + 1e-12
    centre = np.average(log_odds, axis=0, weights=doubt)
    width = np.sqrt(np.average(np.square(log_odds - centre), axis=0, weights=doubt)) + 1e-6
    x = (log_odds - centre) / width
    a, b = np.zeros(raw.shape[1]), np.zeros(raw.shape[1])
    for _ in range(_STEPS):
        p = expit(log_odds + b + a * x)
        error, curvature = p - positive, p * (1 - p)
        of_a, of_b = (error * x).sum(axis=0) + strength * a, error.sum(axis=0) + strength * b
        aa = (curvature * x * x).sum(axis=0) + strength
        ab, bb = (curvature * x).sum(axis=0), curvature.sum(axis=0) + strength
        determinant = aa * bb - ab * ab
        a -= np.clip((bb * of_a - ab * of_b) / determinant, -_LONGEST_STEP, _LONGEST_STEP)
        b -= np.clip((aa * of_b - ab * of_a) / determinant, -_LONGEST_STEP, _LONGEST_STEP)
    slope = np.maximum(1 + a / width, _LEAST_SLOPE)
    return Calibration(slope * shared.scale, slope * shared.offset + b + (1 - slope) * centre)
