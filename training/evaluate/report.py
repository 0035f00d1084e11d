"""All figures of a model on one set of labelled rows, ready for JSON: None where a figure is undefined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.monitor.distribution import Counts, count_probabilities, probability_counts
from ptec_udf.monitor.training import PROBABILITIES
from training.calibrate.calibrate import Calibration, checked_cells
from training.evaluate.curves import curves
from training.evaluate.metrics import (
    ECE_FLOOR,
    auroc_per_label,
    average_precision_per_label,
    calibration_error,
    equal_mass_bins,
    f1_per_label,
    mean_of_defined,
    ratio,
)


def report_on(
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
            label: _figures({name: values[i] for name, values in columns.items()}) | {PROBABILITIES: counts[label]}
            for i, label in zip(range(raw.shape[1]), labels, strict=True)
        },
        "curves": curves(probabilities, positive, bins, cells),
    }


def of_first_fit(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report of validation by a fit before the last one, without probabilities by label.

    Drift would take them for those of the deployed model, whose probabilities need not lie like them.
    """
    kept = {
        label: {name: value for name, value in figures.items() if name != PROBABILITIES}
        for label, figures in report["per_label"].items()
    }
    return report | {"per_label": kept}


def counts_by_label(probabilities: NDArray[np.floating], labels: Sequence[str]) -> dict[str, Counts]:
    """Count probabilities, (n_rows, n_labels), by label and bin, in the precision that nights store."""
    counts = count_probabilities(probabilities.astype(np.float32))
    return dict(zip(labels, map(probability_counts, counts), strict=True))


def _overall(
    columns: dict[str, NDArray[Any]],
    positive: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    decisions: NDArray[np.bool_],
    reference: NDArray[np.float64],
) -> dict[str, Any]:
    """Average the figures per label and measure the probabilities over all cells."""
    occurs = columns["positives"] > 0
    hits, brier = int((decisions & positive).sum()), mean_of_defined(columns["brier"])
    reference_brier = mean_of_defined(np.square(reference - positive).ravel())
    ece, by_chance, n_cells = calibration_error(probabilities, positive)
    weights = columns["positives"][occurs]
    return {
        "n_rows": positive.shape[0],
        "n_labels": positive.shape[1],
        "n_labels_that_occur": int(occurs.sum()),
        "macro_f1": mean_of_defined(columns["f1"]),
        "micro_f1": 2 * hits / (decisions.sum() + positive.sum()) if positive.any() else np.nan,
        "weighted_f1": np.average(columns["f1"][occurs], weights=weights) if occurs.any() else np.nan,
        "map": mean_of_defined(columns["ap"]),
        "auroc": mean_of_defined(columns["auroc"]),
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
        "auroc": auroc_per_label(raw, positive),
        "brier": ratio(np.square(probabilities - positive).sum(axis=0), np.full(len(positives), len(positive))),
    }


def _figures(values: dict[str, Any]) -> dict[str, float | int | None]:
    """Round to 6 digits, say NaN as None, and give plain Python numbers."""
    return {
        name: int(value)
        if isinstance(value, int | np.integer)
        else (round(float(value), 6) if np.isfinite(value) else None)
        for name, value in values.items()
    }
