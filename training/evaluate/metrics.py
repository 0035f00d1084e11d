"""Figures of a model on labelled rows: of ranking, decisions and probabilities.

Averages over labels cover the labels that occur in the rows; scikit-learn counts the others as 0. An undefined figure
is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

ECE_FLOOR = 0.05
"""Calibration error covers cells from this probability on; certain negatives would dominate it otherwise."""

ECE_BINS = 10
_ECE_SIMULATIONS = 200


def macro_f1(decisions: NDArray[Any], targets: NDArray[Any]) -> float:
    """Average F1 over the labels that occur; both arguments 0 or 1, *Shape:* ``(n_rows, n_labels)``."""
    return mean_of_defined(f1_per_label(np.asarray(decisions).astype(bool), np.asarray(targets).astype(bool)))


def mean_average_precision(scores: NDArray[Any], targets: NDArray[Any]) -> float:
    """Average the average precision over the labels that occur; both arguments *Shape:* ``(n_rows, n_labels)``."""
    return mean_of_defined(average_precision_per_label(np.asarray(scores), np.asarray(targets).astype(bool)))


def f1_per_label(decisions: NDArray[np.bool_], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return F1 of each label, *Shape:* ``(n_labels,)``, NaN where it does not occur."""
    positives = positive.sum(axis=0)
    f1 = ratio(2 * (decisions & positive).sum(axis=0), decisions.sum(axis=0) + positives)
    return np.where(positives > 0, f1, np.nan)


def average_precision_per_label(scores: NDArray[Any], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return average precision of each label, *Shape:* ``(n_labels,)``, NaN where it does not occur."""
    found = np.full(positive.shape[1], np.nan)
    if (occurs := positive.any(axis=0)).any():
        found[occurs] = average_precision_score(positive[:, occurs], scores[:, occurs], average=None)
    return found


def auroc_per_label(scores: NDArray[Any], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each label, *Shape:* ``(n_labels,)``, NaN where one class occurs only."""
    found = np.full(positive.shape[1], np.nan)
    if (both := positive.any(axis=0) & ~positive.all(axis=0)).any():
        found[both] = roc_auc_score(positive[:, both], scores[:, both], average=None)
    return found


def calibration_error(
    probabilities: NDArray[np.floating], targets: NDArray[np.generic], seed: int = 0
) -> tuple[float, float, int]:
    """Measure the expected calibration error over cells from ``ECE_FLOOR`` on, and its value by chance.

    Cells are put in ten bins of equal mass (Nguyen and O'Connor, EMNLP 2015, arXiv 1508.05154). The value by chance
    comes from targets that are drawn from the probabilities themselves.

    Args:
        probabilities: calibrated, *Shape:* ``(n_rows, n_labels)``.
        targets: 0 or 1, same shape.
        seed: of the draws.

    Returns:
        The error, the mean error of perfect calibration, the number of cells.
    """
    is_counted = np.asarray(probabilities) >= ECE_FLOOR
    p, y = np.asarray(probabilities, np.float64)[is_counted], np.asarray(targets)[is_counted].astype(bool)
    if p.size == 0:
        return float("nan"), float("nan"), 0
    bins, random = equal_mass_bins(p), np.random.default_rng(seed)
    by_chance = np.mean([_binned_gap(p, random.random(p.size) < p, bins) for _ in range(_ECE_SIMULATIONS)])
    return _binned_gap(p, y, bins), float(by_chance), int(p.size)


def equal_mass_bins(probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
    """Assign probabilities, *Shape:* ``(n_cells,)``, to ``ECE_BINS`` bins of about equal numbers; ties share a bin."""
    edges = np.quantile(probabilities, np.linspace(0, 1, ECE_BINS + 1)[1:-1])
    return np.searchsorted(edges, probabilities, side="right")


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=denominator > 0)


def mean_of_defined(values: NDArray[np.float64]) -> float:
    """Average the values that are defined; NaN without any."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _binned_gap(probabilities: NDArray[np.float64], positive: NDArray[np.bool_], bins: NDArray[np.intp]) -> float:
    gaps = np.bincount(bins, weights=probabilities - positive, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / probabilities.size)
