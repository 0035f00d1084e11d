"""Logits to probabilities and labels in NumPy; ``nightly/rows.py`` does the same in Spark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.model.manifest import Label, Point


def probabilities(
    logits: NDArray[np.floating], labels: Sequence[Label], curve: Sequence[Point] | None
) -> NDArray[np.float32]:
    """Return sigmoid(curve(scale * logit + offset)), computed in float64; both *Shape:* ``(..., n_labels)``."""
    scale, offset = np.array([label.scale for label in labels]), np.array([label.offset for label in labels])
    log_odds = apply_curve(scale * logits.astype(np.float64) + offset, curve, np.clip)
    with np.errstate(over="ignore"):  # the exponential of a large value is infinite, the probability 0
        return (1 / (1 + np.exp(-log_odds))).astype(np.float32)


def apply_curve(log_odds: Any, points: Sequence[Point] | None, clamp: Callable[[Any, float, float], Any]) -> Any:
    """Interpolate log-odds linearly between the points of an isotonic curve; beyond an end, shift by its offset.

    ``clamp`` limits the log-odds, a NumPy array or a Spark column, to the range between two numbers.
    """
    if points is None:
        return log_odds
    (first, start), (last, _) = points[0], points[-1]
    shifted = log_odds - clamp(log_odds, first, last) + start
    for (left, lower), (right, upper) in pairwise(points):
        shifted = shifted + (clamp(log_odds, left, right) - left) * ((upper - lower) / (right - left))
    return shifted
