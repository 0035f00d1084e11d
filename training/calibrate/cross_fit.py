"""How much to shrink towards what all labels share, chosen on rows that fitted nothing.

Each row is judged by what was fitted to the other folds' rows. What all labels share stays unless another strength
is better than chance explains. Chance here is threefold: the rows, by a bootstrap; the best of several strengths,
by the bootstrap of their maximum; and folds that share their fitted rows, by the factor of Nadeau and Bengio,
"Inference for the generalization error", Machine Learning 52, 2003.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluate.metrics import Metric, over_last_axis

STRENGTHS = (math.inf, 200.0, 100.0, 50.0, 20.0, 10.0)
"""Shrinkages to choose from, in positives of a label; infinite: all labels share one value."""

FOLDS, REPEATS = 5, 4
_RESAMPLES = 400
_CERTAINTY = 0.975
_OVERLAP = math.sqrt(1 + FOLDS / (FOLDS - 1))  # of standard errors: sqrt((1/J + 1/(J-1)) / (1/J)) with J folds

Judged = Mapping[float, NDArray[Any]]
"""By strength: decisions or scores."""

FitAndJudge = Callable[[NDArray[np.intp], NDArray[np.intp]], Judged]
"""From rows to fit on and rows to judge to what each strength says of the latter, (n_judged, n_labels)."""


def choose_strength(
    fit_and_judge: FitAndJudge, targets: NDArray[np.generic], metric: Metric, strengths: Sequence[float] = STRENGTHS
) -> tuple[float, dict[str, Any]]:
    """Choose the strength of a shrinkage by cross-fitting.

    Args:
        fit_and_judge: fits on some rows and judges others, for every strength at once.
        targets: 0 or 1, (n_rows, n_labels).
        metric: from what is said of rows, and targets, to a figure where more is better.
        strengths: to choose from; the first is what the others must beat.

    Returns:
        The strength (the first where fewer rows than folds have a label), and what led to it, ready for JSON:
        ``best_other`` of the strengths, its ``difference`` to the first with the ends of its interval, the ``needed``
        difference, which allows for the choice among several, and ``chosen``, None where that is infinite.
    """
    targets = np.asarray(targets)
    if targets.any(axis=1).sum() < FOLDS:
        return strengths[0], dict.fromkeys(("best_other", "difference", "low", "high", "needed", "chosen"))
    values = _cross_fitted(fit_and_judge, targets, strengths)
    mean = over_last_axis(metric)

    def gains(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Differences of the other strengths to the first, (n_strengths - 1,)."""
        figures = [mean(values[strength][rows], targets[rows]) for strength in strengths]
        return np.array(figures[1:]) - figures[0]

    found = gains(np.arange(len(targets)))
    random = np.random.default_rng(0)
    resampled = np.array([gains(random.integers(0, len(targets), len(targets))) for _ in range(_RESAMPLES)])
    needed = _OVERLAP * float(np.nanquantile((resampled - found).max(axis=1), _CERTAINTY))
    best = int(np.argmax(found))
    errors = _OVERLAP * np.nanquantile(resampled[:, best] - found[best], [1 - _CERTAINTY, _CERTAINTY])
    chosen = strengths[best + 1] if found[best] > needed else strengths[0]
    return chosen, {
        "best_other": strengths[best + 1],
        "difference": round(float(found[best]), 6),
        "low": round(float(found[best] + errors[0]), 6),
        "high": round(float(found[best] + errors[1]), 6),
        "needed": round(needed, 6),
        "chosen": None if math.isinf(chosen) else chosen,
    }


def folds(targets: NDArray[Any], random: np.random.Generator) -> NDArray[np.intp]:
    """Deal rows, whose targets are given, (n_rows, n_labels), into folds of about equal size, (n_rows,)."""
    has_label = targets.any(axis=1)
    # Labelled rows are dealt first, so that none but one that stands alone leaves the others without a label.
    order = np.concatenate([random.permutation(np.flatnonzero(group)) for group in (has_label, ~has_label)])
    fold = np.empty(len(targets), np.intp)
    fold[order] = np.arange(len(targets)) % FOLDS
    return fold


def _cross_fitted(
    fit_and_judge: FitAndJudge, targets: NDArray[Any], strengths: Sequence[float]
) -> dict[float, NDArray[Any]]:
    """Judge each row by what the other folds fitted, (n_rows, n_labels, n_repeats) for each strength."""
    random = np.random.default_rng(0)
    found = {strength: np.zeros((*targets.shape, REPEATS)) for strength in strengths}
    for repeat in range(REPEATS):
        fold = folds(targets, random)
        for part in range(FOLDS):
            fitted, judged = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
            for strength, values in fit_and_judge(fitted, judged).items():
                found[strength][judged, :, repeat] = values
    return found
