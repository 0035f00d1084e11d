"""Figures of a model on labelled rows, per label and as means, and their bootstrap over rows.

Means cover the labels that occur in the rows; scikit-learn counts the others as 0. An undefined figure is NaN. Scores,
decisions and targets have *Shape:* ``(n_rows, n_labels)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Measure = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From weights of the rows, *Shape:* ``(n, n_rows)``, to a figure of each label, *Shape:* ``(n, n_labels)``."""

N_RESAMPLES = 1000
ECE_FLOOR = 0.05
"""Calibration error covers cells from this probability on; certain negatives would dominate it otherwise."""

_RESAMPLES_AT_A_TIME = 100
_ECE_BINS = 10
_ECE_SIMULATIONS = 200


def macro_f1(decisions: NDArray[Any], targets: NDArray[Any]) -> float:
    """Average F1 over the labels that occur."""
    return float(mean_of_defined(on_all_rows(f1(decisions, targets), len(targets))))


def mean_average_precision(scores: NDArray[Any], targets: NDArray[Any]) -> float:
    """Average the average precision over the labels that occur."""
    return float(mean_of_defined(on_all_rows(average_precision(scores, targets), len(targets))))


def on_all_rows(measure: Measure, n_rows: int) -> NDArray[np.float64]:
    """Return the figure of each label on all rows, *Shape:* ``(n_labels,)``."""
    return measure(np.ones((1, n_rows)))[0]


def bootstrap(measure: Measure, n_rows: int) -> NDArray[np.float64]:
    """Return the figure of each label on resamples of the rows, *Shape:* ``(N_RESAMPLES, n_labels)``.

    A resample weights each row by how often it is drawn. Resamples depend on ``n_rows`` alone, so two models on the
    same rows are paired. Source: Efron and Tibshirani, "An introduction to the bootstrap", 1993.
    """
    random, shares = np.random.default_rng(0), np.full(n_rows, 1 / n_rows)
    parts = range(N_RESAMPLES // _RESAMPLES_AT_A_TIME)
    draws = (random.multinomial(n_rows, shares, size=_RESAMPLES_AT_A_TIME).astype(np.float64) for _ in parts)
    return np.concatenate([measure(weights) for weights in draws])


def interval(samples: NDArray[np.float64], estimate: float) -> tuple[float, float]:
    """Return the bias-corrected percentile interval of 95 %; NaN where no sample is defined.

    A resample contains a rare label's few rows several times, which biases its figures. So all samples are shifted by
    the difference of their mean to the estimate on all rows.
    """
    defined = samples[np.isfinite(samples)]
    if not defined.size or not np.isfinite(estimate):
        return float("nan"), float("nan")
    low, high = np.quantile(defined - (defined.mean() - estimate), [0.025, 0.975]).tolist()
    return low, high


def f1(decisions: NDArray[Any], targets: NDArray[Any]) -> Measure:
    """Return the measure of F1."""
    decided, positive = np.asarray(decisions).astype(bool), np.asarray(targets).astype(bool)

    def measure(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        hits, predicted, positives = (weights @ values for values in (decided & positive, decided, positive))
        return np.where(positives > 0, ratio(2 * hits, predicted + positives), np.nan)

    return measure


def average_precision(scores: NDArray[Any], targets: NDArray[Any]) -> Measure:
    """Return the measure of average precision; unlike in scikit-learn, rows are sorted once for all resamples."""
    values, positive = np.asarray(scores), np.asarray(targets).astype(bool)

    def measure(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.full((len(weights), positive.shape[1]), np.nan)
        for label in np.flatnonzero(positive.any(axis=0)):
            order = np.argsort(-values[:, label], kind="stable")
            ranked, is_hit = values[order, label], positive[order, label]
            last_of_tie = np.searchsorted(-ranked, -ranked[is_hit], side="right") - 1
            drawn = weights[:, order]
            n_seen, n_hits = (counts.cumsum(axis=1)[:, last_of_tie] for counts in (drawn, drawn * is_hit))
            hits, precision = drawn[:, is_hit], np.nan_to_num(ratio(n_hits, n_seen))
            found[:, label] = ratio((hits * precision).sum(axis=1), hits.sum(axis=1))
        return found

    return measure


def calibration_error(probabilities: NDArray[Any], targets: NDArray[Any]) -> tuple[float, float, int]:
    """Measure the expected calibration error over cells from ``ECE_FLOOR`` on, in bins of equal mass.

    Return the error, its mean for targets drawn from the probabilities themselves, and the number of cells. Source:
    Nguyen and O'Connor, EMNLP 2015 (arXiv 1508.05154).
    """
    is_counted = np.asarray(probabilities) >= ECE_FLOOR
    p, y = np.asarray(probabilities, np.float64)[is_counted], np.asarray(targets)[is_counted].astype(bool)
    if p.size == 0:
        return float("nan"), float("nan"), 0
    bins, random = equal_mass_bins(p), np.random.default_rng(0)

    def error(positive: NDArray[np.bool_]) -> float:
        return float(np.abs(np.bincount(bins, weights=p - positive)).sum() / p.size)

    by_chance = np.mean([error(random.random(p.size) < p) for _ in range(_ECE_SIMULATIONS)])
    return error(y), float(by_chance), int(p.size)


def equal_mass_bins(probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
    """Assign probabilities, *Shape:* ``(n_cells,)``, to ten bins of about equal numbers; ties share a bin."""
    edges = np.quantile(probabilities, np.linspace(0, 1, _ECE_BINS + 1)[1:-1])
    return np.searchsorted(edges, probabilities, side="right")


def mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over the last axis, NaN left out; NaN where all are."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is 0."""
    out = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)
