"""Points of the curves that a report draws of a model on labelled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

_MOST_POINTS = 50
_DIGITS = 4


def curves(
    probabilities: NDArray[np.floating], positive: NDArray[np.bool_], bins: NDArray[np.intp], cells: NDArray[np.bool_]
) -> dict[str, list[list[float]]]:
    """Return points over all labels together.

    Args:
        probabilities: calibrated, (n_rows, n_labels).
        positive: whether the row has the label, (n_rows, n_labels).
        bins: bin of each cell that counts for calibration, (n_cells,).
        cells: which cells these are, (n_rows, n_labels).

    Returns:
        ``precision_recall``: threshold, precision and recall; ``reliability``: mean probability of a bin, share of its
        cells that are true, and their number. Empty where they are undefined.
    """
    found: dict[str, list[list[float]]] = {"precision_recall": [], "reliability": []}
    if positive.any():
        precision, recall, thresholds = precision_recall_curve(positive.ravel(), probabilities.ravel())
        # Evenly over recall: evenly over thresholds, most points are those of cells that nobody would call a label.
        levels = np.linspace(0, 1, _MOST_POINTS + 1)[1:]
        kept = np.unique(len(thresholds) - 1 - np.searchsorted(recall[-2::-1], levels - 1e-9))
        found["precision_recall"] = _rows(thresholds[kept], precision[kept], recall[kept])
    if len(bins):
        p, y = probabilities[cells], positive[cells]
        counts = np.bincount(bins)
        used = counts > 0
        means = [np.bincount(bins, weights=values)[used] / counts[used] for values in (p, y)]
        found["reliability"] = _rows(*means, counts[used])
    return found


def _rows(*columns: NDArray[Any]) -> list[list[float]]:
    """Put columns side by side, as plain numbers with few digits."""
    return [[round(float(value), _DIGITS) for value in row] for row in zip(*columns, strict=True)]
