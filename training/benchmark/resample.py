"""A run's figures on resampled rows: each row counts as often as it is drawn, so that rows are ranked only once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.benchmark.results import Run
from training.evaluate.metrics import ECE_FLOOR, binned_error, ratio

Figures = dict[str, NDArray[np.float64]]


def resampled(run: Run, targets: NDArray[np.floating], base_rates: NDArray[np.floating], n: int) -> Figures:
    """Give each figure of a run on ``n`` samples of the rows, drawn with replacement and the same for all runs.

    Args:
        run: what a method gave the rows.
        targets: 0 or 1, *Shape:* ``(n_rows, n_labels)``.
        base_rates: share of positives of each label in training, *Shape:* ``(n_labels,)``, for the Brier skill.
        n: number of samples.

    Returns:
        Figures as ``evaluate`` has them, each *Shape:* ``(n,)``, NaN where undefined; those that need scores are left
        out where there are only decisions.
    """
    positive = targets.astype(bool)
    random = np.random.default_rng(0)
    counts = np.array(
        [
            np.bincount(random.integers(0, len(positive), len(positive)), minlength=len(positive)).astype(float)
            for _ in range(n)
        ]
    )
    found = _of_decisions(run.decided, positive, counts)
    if run.decisions is None:
        return found
    probabilities = run.decisions.calibration.probabilities(run.logits)
    ranking = _Ranking(run.logits, positive)
    of_ranks = np.array([ranking.figures(count) for count in counts])
    return found | {
        "map": _defined_mean(of_ranks[:, 0]),
        "auroc": _defined_mean(of_ranks[:, 1]),
        **_brier(probabilities, positive, base_rates, counts),
        "ece": np.array([_calibration_error(probabilities, positive, count) for count in counts]),
    }


def _of_decisions(decided: NDArray[np.bool_], positive: NDArray[np.bool_], counts: NDArray[np.float64]) -> Figures:
    """F1 in its three forms."""
    hits, positives, both = (
        counts @ values for values in (decided & positive, positive, decided.astype(float) + positive)
    )
    f1 = np.where(positives > 0, ratio(2 * hits, both), np.nan)
    return {
        "macro_f1": _defined_mean(f1),
        "micro_f1": ratio(2 * hits.sum(axis=1), both.sum(axis=1)),
        "weighted_f1": ratio((np.nan_to_num(f1) * positives).sum(axis=1), positives.sum(axis=1)),
    }


def _brier(
    probabilities: NDArray[np.float64],
    positive: NDArray[np.bool_],
    base_rates: NDArray[np.floating],
    counts: NDArray[np.float64],
) -> Figures:
    """The Brier score, and its skill against always saying the base rates."""
    errors, of_reference = (
        counts @ np.square(said - positive).sum(axis=1) for said in (probabilities, np.asarray(base_rates, float))
    )
    return {"brier": errors / positive.size, "brier_skill": 1 - ratio(errors, of_reference)}


def _calibration_error(
    probabilities: NDArray[np.float64], positive: NDArray[np.bool_], count: NDArray[np.float64]
) -> float:
    kept = probabilities >= ECE_FLOOR
    often = np.broadcast_to(count.astype(int)[:, None], kept.shape)[kept]
    return binned_error(np.repeat(probabilities[kept], often), np.repeat(positive[kept], often))


class _Ranking:
    """Each label's rows in the order of their scores; rows of equal score share what is counted up to the last."""

    def __init__(self, scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-scores, axis=0, kind="stable")
        ranked = np.take_along_axis(scores, self.order, axis=0)
        self.hits = np.take_along_axis(positive, self.order, axis=0)
        rows, differs = np.arange(len(scores))[:, None], ranked[1:] != ranked[:-1]
        edge = np.ones_like(self.hits[:1])
        first = np.where(np.append(edge, differs, axis=0), rows, 0)
        last = np.where(np.append(differs, edge, axis=0), rows, len(scores))
        self.first = np.maximum.accumulate(first, axis=0)
        self.last = np.minimum.accumulate(last[::-1], axis=0)[::-1]

    def figures(self, count: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average precision and area under the ROC curve of each label, each *Shape:* ``(n_labels,)``."""
        often = count[self.order]
        often_positive = often * self.hits
        n_up_to, hits_up_to = (
            np.take_along_axis(values.cumsum(axis=0), self.last, axis=0) for values in (often, often_positive)
        )
        n_positive, n_negative = hits_up_to[-1], n_up_to[-1] - hits_up_to[-1]
        precision = (often_positive * np.nan_to_num(ratio(hits_up_to, n_up_to))).sum(axis=0)
        negatives = n_up_to - hits_up_to  # with scores at least as high
        before = np.take_along_axis(np.insert(negatives[:-1], 0, 0, axis=0), self.first, axis=0)
        beaten = (often_positive * (n_negative - (negatives + before) / 2)).sum(axis=0)
        return ratio(precision, n_positive), ratio(beaten, n_positive * n_negative)


def _defined_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average each row over the labels for which it is defined."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1).astype(float))
