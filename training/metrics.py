"""What a model is worth on labelled rows: ranking, decisions and probabilities.

Averages over labels cover only labels that occur in the rows: scikit-learn counts the others
as 0, which makes a split with missing labels look worse than it is. A figure that is undefined
is None in a report and NaN from a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ptec_udf.drift.distribution import Counts, count_probabilities, probability_counts
from training.curves import curves
from training.decisions.calibrate import Calibration, checked_cells

ECE_FLOOR = 0.05
"""Calibration error looks at cells from this probability on; certain negatives would drown the rest."""

ECE_BINS = 10
ECE_SIMULATIONS = 200

Metric = Callable[[NDArray[Any], NDArray[Any]], float]


def evaluate(
    logits: NDArray[np.floating],
    targets: NDArray[np.generic],
    calibration: Calibration,
    thresholds: NDArray[np.floating],
    labels: Sequence[str],
    base_rates: NDArray[np.floating] | None = None,
) -> dict[str, Any]:
    """Report all figures of one model on one set of rows, ready for JSON.

    Args:
        logits: raw logits, (n_rows, n_labels).
        targets: 0 or 1, (n_rows, n_labels).
        calibration: from logits to probabilities.
        thresholds: a label is predicted where its probability is at or over this, (n_labels,).
        labels: names, (n_labels,).
        base_rates: share of positives of each label in training, (n_labels,), the reference of the
            Brier skill; None: the share in these rows.

    Returns:
        ``overall`` with one figure per name and ``per_label`` with one such mapping per label, with ``probabilities``,
        rows by bin, beside; floats have 6 digits. ``curves`` with points for plots.

    Raises:
        TrainingError: when shapes differ or a logit is not finite.
    """
    raw, positive = checked_cells(logits, targets)
    probabilities = calibration.probabilities(raw)
    decisions = probabilities >= thresholds
    reference = positive.mean(axis=0) if base_rates is None else np.asarray(base_rates, np.float64)
    columns = _per_label(raw, positive, probabilities, decisions)
    columns["threshold"] = np.broadcast_to(thresholds, (raw.shape[1],))
    counts = counts_by_label(probabilities, labels)
    cells = probabilities >= ECE_FLOOR
    bins = equal_mass_bins(probabilities[cells]) if cells.any() else np.array([], np.intp)
    return {
        "overall": _figures(_overall(columns, positive, probabilities, decisions, reference)),
        "per_label": {
            label: _figures({name: values[i] for name, values in columns.items()}) | {"probabilities": counts[label]}
            for i, label in zip(range(raw.shape[1]), labels, strict=True)
        },
        "curves": curves(probabilities, positive, bins, cells),
    }


def macro_f1(decisions: NDArray[Any], targets: NDArray[Any]) -> float:
    """Average F1 over the labels that occur; both arguments 0 or 1, (n_rows, n_labels)."""
    return _mean(f1_per_label(np.asarray(decisions).astype(bool), np.asarray(targets).astype(bool)))


def f1_per_label(decisions: NDArray[np.bool_], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """F1 of each label, (n_labels,), NaN where it does not occur; arguments as in ``macro_f1``, but boolean."""
    positives = positive.sum(axis=0)
    f1 = ratio(2 * (decisions & positive).sum(axis=0), decisions.sum(axis=0) + positives)
    return np.where(positives > 0, f1, np.nan)


def mean_average_precision(scores: NDArray[Any], targets: NDArray[Any]) -> float:
    """Average the average precision over the labels that occur; both arguments (n_rows, n_labels)."""
    return _mean(average_precision_per_label(np.asarray(scores), np.asarray(targets).astype(bool)))


def counts_by_label(probabilities: NDArray[np.floating], labels: Sequence[str]) -> dict[str, Counts]:
    """Count probabilities, (n_rows, n_labels), by label and bin, in the precision that nights store."""
    counts = count_probabilities(probabilities.astype(np.float32))
    return dict(zip(labels, map(probability_counts, counts), strict=True))


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


def over_last_axis(metric: Metric) -> Metric:
    """Average a metric over the last axis of its first argument, (n_rows, n_labels, n_repeats)."""

    def mean(values: NDArray[Any], targets: NDArray[Any]) -> float:
        return float(np.mean([metric(values[..., at], targets) for at in range(values.shape[-1])]))

    return mean


def _overall(
    columns: dict[str, NDArray[Any]],
    positive: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    decisions: NDArray[np.bool_],
    reference: NDArray[np.float64],
) -> dict[str, Any]:
    """Average the figures per label and measure the probabilities over all cells."""
    occurs = columns["positives"] > 0
    hits, brier = int((decisions & positive).sum()), _mean(columns["brier"])
    reference_brier = _mean(np.square(reference - positive).ravel())
    ece, by_chance, n_cells = calibration_error(probabilities, positive)
    weights = columns["positives"][occurs]
    return {
        "n_rows": positive.shape[0],
        "n_labels": positive.shape[1],
        "n_labels_that_occur": int(occurs.sum()),
        "macro_f1": _mean(columns["f1"]),
        "micro_f1": 2 * hits / (decisions.sum() + positive.sum()) if positive.any() else np.nan,
        "weighted_f1": np.average(columns["f1"][occurs], weights=weights) if occurs.any() else np.nan,
        "map": _mean(columns["ap"]),
        "auroc": _mean(columns["auroc"]),
        "brier": brier,
        "brier_skill": 1 - brier / reference_brier if reference_brier > 0 else np.nan,
        "ece": ece,
        "ece_by_chance": by_chance,
        "n_cells_ece": n_cells,
    }


def _per_label(
    raw: NDArray[np.float64],
    positive: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    decisions: NDArray[np.bool_],
) -> dict[str, NDArray[Any]]:
    """Measure each label; every value has shape (n_labels,)."""
    hits = (decisions & positive).sum(axis=0)
    positives, predicted = positive.sum(axis=0), decisions.sum(axis=0)
    # Order is the same on logits and probabilities, but logits cannot saturate into ties.
    return {
        "positives": positives,
        "predicted": predicted,
        "f1": f1_per_label(decisions, positive),
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, positives),
        "ap": average_precision_per_label(raw, positive),
        "auroc": _auroc(raw, positive),
        "brier": ratio(np.square(probabilities - positive).sum(axis=0), np.full(len(positives), len(positive))),
    }


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


def _auroc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area under the ROC curve of each label, NaN where only one class occurs."""
    positives = positive.sum(axis=0)
    ranks = (rankdata(scores, axis=0) * positive).sum(axis=0)
    return ratio(ranks - positives * (positives + 1) / 2, positives * (len(positive) - positives))


def ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)


def _mean(values: NDArray[np.float64]) -> float:
    """Average the values that are defined; NaN where none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _figures(values: dict[str, Any]) -> dict[str, float | int | None]:
    """Round to 6 digits, say NaN as None, and give plain Python numbers."""
    return {
        name: int(value)
        if isinstance(value, int | np.integer)
        else (round(float(value), 6) if np.isfinite(value) else None)
        for name, value in values.items()
    }
