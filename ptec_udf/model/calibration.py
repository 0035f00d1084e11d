"""Logits to probabilities and labels in NumPy, as ``nightly/rows.py`` does it in Spark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ptec_udf.model.curve import Point, bend
from ptec_udf.model.manifest import Label


def probabilities(
    logits: NDArray[np.floating], labels: Sequence[Label], curve: Sequence[Point] | None
) -> NDArray[np.float32]:
    """Return sigmoid(curve(scale * logit + offset)), computed in float64 and rounded as in the scores table.

    Args:
        logits: *Shape:* ``(..., n_labels)``, as is the result.
        labels: their scales and offsets.
        curve: points that all log-odds go through; None: a straight line.
    """
    scale, offset = np.array([label.scale for label in labels]), np.array([label.offset for label in labels])
    log_odds = bend(scale * logits.astype(np.float64) + offset, curve, np.clip)
    with np.errstate(over="ignore"):  # of the exponential: the probability is then 0
        return (1 / (1 + np.exp(-log_odds))).astype(np.float32)


def is_assigned(probability: NDArray[np.float32], labels: Sequence[Label]) -> NDArray[np.bool_]:
    """Tell which labels are at or over their threshold, compared as float32; *Shape:* ``(..., n_labels)``, both."""
    return probability >= np.array([label.threshold for label in labels], np.float32)
