"""Logits to probabilities and labels in NumPy; ``nightly/rows.py`` does the same in Spark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ptec_udf.model.manifest import Label


def probabilities(logits: NDArray[np.floating], labels: Sequence[Label]) -> NDArray[np.float32]:
    """Return sigmoid(scale * logit + offset), computed in float64; both *Shape:* ``(..., n_labels)``."""
    scale, offset = np.array([label.scale for label in labels]), np.array([label.offset for label in labels])
    log_odds = scale * logits.astype(np.float64) + offset
    with np.errstate(over="ignore"):  # the exponential of a large value is infinite, the probability 0
        return (1 / (1 + np.exp(-log_odds))).astype(np.float32)


def assigned(found: NDArray[np.float32], labels: Sequence[Label]) -> NDArray[np.bool_]:
    """Return which labels are at or over their threshold, compared as floats as in the table ``scores``.

    Both *Shape:* ``(..., n_labels)``; a probability of NaN is not.
    """
    return found >= np.array([label.threshold for label in labels], np.float32)
