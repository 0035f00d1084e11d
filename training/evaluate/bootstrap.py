"""The paired bootstrap over rows: each resample weights a row by how often it is drawn.

Rows are sorted once per label, not once per resample. Two models on the same rows are paired, since the weights depend
on the number of rows and the seed only. Source: Efron and Tibshirani, "An introduction to the bootstrap", 1993.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.evaluate.metrics import ratio

_MAX_CELLS = 10_000_000  # weights that are computed with at a time


def resampled_average_precision(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], n: int, seed: int = 0
) -> NDArray[np.float64]:
    """Return average precision of each label in ``n`` resamples of the rows.

    Args:
        scores: more is likelier, *Shape:* ``(n_rows, n_labels)``.
        positive: same shape.
        n: number of resamples.
        seed: of the resamples.

    Returns:
        *Shape:* ``(n, n_labels)``, NaN where a label does not occur.
    """
    found = np.full((n, positive.shape[1]), np.nan)
    for part, weights in _weights(len(positive), n, seed):
        for label in np.flatnonzero(positive.any(axis=0)):
            found[part, label] = _weighted_average_precision(scores[:, label], positive[:, label], weights)
    return found


def resampled_f1(
    decisions: NDArray[np.bool_], positive: NDArray[np.bool_], n: int, seed: int = 0
) -> NDArray[np.float64]:
    """Return F1 of each label in ``n`` resamples of the rows; shapes as in ``resampled_average_precision``."""
    found = np.empty((n, positive.shape[1]))
    for part, weights in _weights(len(positive), n, seed):
        hits, predicted, positives = (weights @ values for values in (decisions & positive, decisions, positive))
        found[part] = np.where(positives > 0, ratio(2 * hits, predicted + positives), np.nan)
    return found


def means_of_defined(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average each resample over the labels that are defined in it, ``(n, n_labels)`` to ``(n,)``."""
    defined = np.isfinite(samples)
    return ratio(np.where(defined, samples, 0).sum(axis=1), defined.sum(axis=1))


def interval(samples: NDArray[np.float64], estimate: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the bias-corrected percentile interval; NaN where no sample is defined.

    A resample holds a rare label's few rows several times, which biases its figures. So all samples are shifted by the
    difference of their mean to the estimate.

    Args:
        samples: a figure, or a difference of two, on each resample, *Shape:* ``(n,)``.
        estimate: the same on all rows.
        confidence: share of the samples within.
    """
    defined, tail = samples[np.isfinite(samples)], (1 - confidence) / 2
    if not defined.size or not np.isfinite(estimate):
        return float("nan"), float("nan")
    low, high = np.quantile(defined - (defined.mean() - estimate), [tail, 1 - tail]).tolist()
    return low, high


def _weights(n_rows: int, n: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Yield resamples in parts: which ones, and how often each row is drawn, *Shape:* ``(n_part, n_rows)``."""
    random = np.random.default_rng(seed)
    for part in np.array_split(np.arange(n), max(1, n * n_rows // _MAX_CELLS)):
        yield part, random.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=len(part)).astype(np.float64)


def _weighted_average_precision(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return average precision of one label under each row of ``weights``; equal scores share their precision."""
    order = np.argsort(-scores, kind="stable")
    ranked, is_hit = scores[order], positive[order]
    last_of_tie = np.searchsorted(-ranked, -ranked[is_hit], side="right") - 1
    sorted_weights = weights[:, order]
    hits = sorted_weights * is_hit
    n_seen, n_hits = (values.cumsum(axis=1)[:, last_of_tie] for values in (sorted_weights, hits))
    total = (hits[:, is_hit] * np.nan_to_num(ratio(n_hits, n_seen))).sum(axis=1)
    return ratio(total, hits.sum(axis=1))
