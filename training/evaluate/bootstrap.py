"""The bootstrap over rows: differences of two models, and intervals without bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def resampled_differences(
    metric: Callable[[NDArray[Any], NDArray[Any]], Any],
    scores_a: NDArray[Any],
    scores_b: NDArray[Any],
    targets: NDArray[Any],
    n: int,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Resample rows ``n`` times with replacement and give the first model's figure minus the second's of each time.

    The paired bootstrap of Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 16.

    Args:
        metric: from scores or decisions, and targets, to a figure where more is better, or one for each label.
        scores_a: of the first model, (n_rows, n_labels), in the form that ``metric`` takes.
        scores_b: of the second model, in the same rows.
        targets: 0 or 1, (n_rows, n_labels).
        n: number of resamples.
        seed: of the resampling.

    Returns:
        *Shape:* ``(n,)``, or ``(n, n_labels)``; NaN where the metric is undefined.
    """
    random = np.random.default_rng(seed)
    samples = (random.integers(0, len(targets), len(targets)) for _ in range(n))
    return np.array([metric(scores_a[rows], targets[rows]) - metric(scores_b[rows], targets[rows]) for rows in samples])


def without_bias(samples: NDArray[np.float64], around: float) -> NDArray[np.float64]:
    """Move a bootstrap's samples by what they are too high or too low on average; undefined ones are left out.

    Of a rare label a sample holds the same few rows several times, which for average precision is a lot, and for the
    difference of two models not the same. Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 10.

    Args:
        samples: a figure, or a difference of two, on resampled rows, *Shape:* ``(n,)``.
        around: the same on all rows; where that is undefined, nothing is moved.
    """
    defined = samples[np.isfinite(samples)]
    return defined - (defined.mean() - around) if defined.size and np.isfinite(around) else defined


def bootstrap_interval(samples: NDArray[np.float64], around: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of a bootstrap, without its bias; NaN where no sample is defined.

    Args:
        samples: as ``without_bias`` takes them.
        around: likewise.
        confidence: share of the samples within.
    """
    moved, tail = without_bias(samples, around), (1 - confidence) / 2
    low, high = np.quantile(moved, [tail, 1 - tail]).tolist() if moved.size else (np.nan, np.nan)
    return low, high
