"""From raw logits to labels: one threshold for all labels, or one per label with shrinkage.

A threshold belongs on the raw logit, where ``pos_weight`` has already lifted rare labels. A label's own best threshold
is noise where it has few positives, so it is shrunk towards the common one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptec_training.calibrate.calibration import check_cells
from ptec_udf.errors import TrainingError

SHRINKAGE = 10.0
"""A label with this many positives gets halfway from the common threshold to its own."""

PLATEAU = 0.002
"""Thresholds whose macro-F1 is this close to the best count as equally good."""


def common_threshold(logits: NDArray[np.floating], targets: NDArray[np.generic]) -> float:
    """Find the raw-logit threshold that maximises macro-F1 over the labels that occur; may raise a TrainingError.

    Lowering a threshold helps only where it takes in a positive, so the candidates lie just below the positives. The
    result is the middle of the run of candidates around the best whose macro-F1 is within ``PLATEAU``.
    """
    raw, positive = check_cells(logits, targets)
    if not positive.any():
        raise TrainingError(
            f"a threshold needs at least one positive target, found none among {raw.size} cells; "
            "check that the rows carry labels"
        )
    levels, macro_f1 = _macro_f1_curve(raw, positive)
    below = np.append(levels[1:], levels[-1] - 1.0)
    is_positive = np.isin(levels, raw[positive])
    candidates, quality = ((levels + below) / 2)[is_positive], macro_f1[is_positive]
    best = int(np.argmax(quality))
    poor = np.flatnonzero(quality < quality[best] - PLATEAU)
    first = int(max(poor[poor < best], default=-1)) + 1
    last = int(min(poor[poor > best], default=len(quality))) - 1
    return float(candidates[(first + last) // 2])


def per_label_thresholds(logits: NDArray[np.floating], targets: NDArray[np.generic]) -> NDArray[np.float64]:
    """Find each label's own threshold, shrunk towards the common one, *Shape:* ``(n_labels,)``."""
    raw, positive = check_cells(logits, targets)
    common = common_threshold(raw, positive)
    own = np.full(raw.shape[1], common)
    for label in np.flatnonzero(positive.any(axis=0)):
        own[label] = common_threshold(raw[:, [label]], positive[:, [label]])
    counts = positive.sum(axis=0)
    return common + counts / (counts + SHRINKAGE) * (own - common)


def _macro_f1_curve(
    raw: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return every distinct logit, falling, and the macro-F1 of predicting all cells at or above it."""
    occurs = positive.any(axis=0)
    raw, positive = raw[:, occurs], positive[:, occurs]
    order = np.argsort(-raw, axis=0, kind="stable")
    hits = np.take_along_axis(positive, order, axis=0)
    n_predicted = np.arange(1, len(raw) + 1)[:, None]
    f1 = 2 * np.cumsum(hits, axis=0) / (n_predicted + positive.sum(axis=0))
    # Each cell changes its own label's F1 only, so macro-F1 is a running sum over all cells.
    gains = np.diff(f1, axis=0, prepend=0.0).ravel()
    cells = np.take_along_axis(raw, order, axis=0).ravel()
    falling = np.argsort(-cells, kind="stable")
    cells, macro_f1 = cells[falling], np.cumsum(gains[falling]) / raw.shape[1]
    ends = np.append(np.flatnonzero(np.diff(cells)), len(cells) - 1)
    return cells[ends], macro_f1[ends]
