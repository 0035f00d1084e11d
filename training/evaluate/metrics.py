"""Figures of a model on labelled rows: of ranking, decisions and probabilities.

Averages over labels cover only labels that occur in the rows: scikit-learn counts the others
as 0, which makes a split with missing labels look worse than it is. A figure that is undefined
is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

ECE_FLOOR = 0.05
"""Calibration error looks at cells from this probability on; certain negatives would drown the rest."""

ECE_BINS = 10
ECE_SIMULATIONS = 200

Metric = Callable[[NDArray[Any], NDArray[Any]], float]


def macro_f1(decisions: NDArray[Any], targets: NDArray[Any]) -> float:
    """Average F1 over the labels that occur; both arguments 0 or 1, (n_rows, n_labels)."""
    return mean_of_defined(f1_per_label(np.asarray(decisions).astype(bool), np.asarray(targets).astype(bool)))


def f1_per_label(decisions: NDArray[np.bool_], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """F1 of each label, (n_labels,), NaN where it does not occur; arguments as in ``macro_f1``, but boolean."""
    positives = positive.sum(axis=0)
    f1 = ratio(2 * (decisions & positive).sum(axis=0), decisions.sum(axis=0) + positives)
    return np.where(positives > 0, f1, np.nan)


def mean_average_precision(scores: NDArray[Any], targets: NDArray[Any]) -> float:
    """Average the average precision over the labels that occur; both arguments (n_rows, n_labels)."""
    return mean_of_defined(average_precision_per_label(np.asarray(scores), np.asarray(targets).astype(bool)))


def calibration_error(
    probabilities: NDArray[np.floating], targets: NDArray[np.generic], seed: int = 0
) -> tuple[float, float, int]:
    """Measure the expected calibration error over cells from ``ECE_FLOOR`` on, beside its value by chance.

    Cells are put in ten bins of equal mass (Nguyen and O'Connor, EMNLP 2015, arXiv 1508.05154); equal probabilities
    share a bin. The value by chance is a simulation: targets are drawn from the probabilities themselves.

    Args:
        probabilities: calibrated, (n_rows, n_labels).
        targets: 0 or 1, (n_rows, n_labels).
        seed: of the simulation of targets that the probabilities describe perfectly.

    Returns:
        The error, the error that perfect calibration would give on average, the number of cells.
    """
    kept = np.asarray(probabilities) >= ECE_FLOOR
    p, y = np.asarray(probabilities, np.float64)[kept], np.asarray(targets)[kept].astype(bool)
    if p.size == 0:
        return float("nan"), float("nan"), 0
    bins, random = equal_mass_bins(p), np.random.default_rng(seed)
    by_chance = np.mean([_gap(p, random.random(p.size) < p, bins) for _ in range(ECE_SIMULATIONS)])
    return _gap(p, y, bins), float(by_chance), int(p.size)


def binned_error(probabilities: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Measure the calibration error of cells, both *Shape:* ``(n_cells,)``; NaN where there are none."""
    return _gap(probabilities, positive, equal_mass_bins(probabilities)) if probabilities.size else float("nan")


def _gap(probabilities: NDArray[np.float64], positive: NDArray[np.bool_], bins: NDArray[np.intp]) -> float:
    gaps = np.bincount(bins, weights=probabilities - positive, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / probabilities.size)


def equal_mass_bins(probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
    """Put probabilities, (n_cells,), into ``ECE_BINS`` bins of about equally many; return each one's bin."""
    edges = np.quantile(probabilities, np.linspace(0, 1, ECE_BINS + 1)[1:-1])
    return np.searchsorted(edges, probabilities, side="right")


def over_last_axis(metric: Metric) -> Metric:
    """Average a metric over the last axis of its first argument, (n_rows, n_labels, n_repeats)."""

    def mean(values: NDArray[Any], targets: NDArray[Any]) -> float:
        return float(np.mean([metric(values[..., at], targets) for at in range(values.shape[-1])]))

    return mean


def average_precision_per_label(scores: NDArray[Any], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average precision of each label as scikit-learn defines it, NaN where it does not occur."""
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked, hits = np.take_along_axis(scores, order, axis=0), np.take_along_axis(positive, order, axis=0)
    rows = np.arange(len(scores))[:, None]
    precision = np.cumsum(hits, axis=0) / (rows + 1)
    # Equal scores are taken in together: every one of them has the precision of the last.
    is_last = np.append(ranked[1:] != ranked[:-1], np.ones_like(hits[:1]), axis=0)
    last = np.minimum.accumulate(np.where(is_last, rows, len(scores))[::-1], axis=0)[::-1]
    total = (hits * np.take_along_axis(precision, last, axis=0)).sum(axis=0)
    return ratio(total, positive.sum(axis=0))


def auroc_per_label(scores: NDArray[Any], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area under the ROC curve of each label, NaN where only one class occurs."""
    positives = positive.sum(axis=0)
    ranks = (rankdata(scores, axis=0) * positive).sum(axis=0)
    return ratio(ranks - positives * (positives + 1) / 2, positives * (len(positive) - positives))


def ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)


def mean_of_defined(values: NDArray[np.float64]) -> float:
    """Average the values that are defined; NaN where none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
