"""All figures of a model on one set of labelled rows, ready for JSON: None where a figure is undefined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from ptec_training.calibrate.calibration import Calibration, check_cells
from ptec_training.evaluate.metrics import (
    ECE_FLOOR,
    Measure,
    average_precision,
    bootstrap,
    calibration_error,
    equal_mass_bins,
    f1,
    interval,
    mean_of_defined,
    on_all_rows,
    ratio,
)
from ptec_udf.monitor.distribution import Counts, count_probabilities
from ptec_udf.monitor.training import PROBABILITIES

_MAX_CURVE_POINTS = 50


def report_on(
    logits: NDArray[np.floating],
    targets: NDArray[np.generic],
    calibration: Calibration,
    thresholds: NDArray[np.floating],
    labels: Sequence[str],
    base_rates: NDArray[np.floating] | None = None,
) -> dict[str, Any]:
    """Report all figures of one model on one set of rows; raise a TrainingError as ``check_cells``.

    Raw logits and targets have *Shape:* ``(n_rows, n_labels)``, the thresholds of probabilities ``(n_labels,)``.
    ``base_rates`` are shares of positives in training, for the Brier skill; None: in these rows.
    """
    raw, positive = check_cells(logits, targets)
    probabilities = calibration.probabilities(raw)
    decided = probabilities >= thresholds
    rates = positive.mean(axis=0) if base_rates is None else np.asarray(base_rates, np.float64)
    hits, positives, predicted = (cells.sum(axis=0) for cells in (decided & positive, positive, decided))
    columns = {
        "positives": positives,
        "predicted": predicted,
        "f1": on_all_rows(f1(decided, positive), len(raw)),
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, positives),
        # Logits rank as probabilities do, and cannot saturate into ties.
        "ap": on_all_rows(average_precision(raw, positive), len(raw)),
        "brier": np.square(probabilities - positive).mean(axis=0),
        "threshold": np.broadcast_to(thresholds, (raw.shape[1],)),
    }
    ece, ece_by_chance, n_cells = calibration_error(probabilities, positive)
    overall = {
        "n_rows": positive.shape[0],
        "n_labels": positive.shape[1],
        "n_labels_that_occur": int((positives > 0).sum()),
        "macro_f1": mean_of_defined(columns["f1"]),
        "micro_f1": ratio(2 * hits.sum(), (predicted + positives).sum()) if positive.any() else np.nan,
        "map": mean_of_defined(columns["ap"]),
        "brier": columns["brier"].mean(),
        "brier_skill": 1 - ratio(columns["brier"].mean(), np.square(rates - positive).mean()),
        "ece": ece,
        "ece_by_chance": ece_by_chance,
        "n_cells_ece": n_cells,
    }
    counts = counts_by_label(probabilities, labels)
    per_label = {
        label: _rounded({name: values[at] for name, values in columns.items()}) | {PROBABILITIES: counts[label]}
        for at, label in zip(range(raw.shape[1]), labels, strict=True)
    }
    intervals = {
        name: _interval(measure, len(raw), overall[name])
        for name, measure in {"map": average_precision(raw, positive), "macro_f1": f1(decided, positive)}.items()
    }
    return {
        "overall": _rounded(overall),
        "intervals": intervals,
        "per_label": per_label,
        "curves": curves(probabilities, positive),
    }


def _interval(measure: Measure, n_rows: int, estimate: float) -> list[float | None]:
    """Return the bootstrap interval of a mean over labels; None where it is undefined."""
    low, high = interval(mean_of_defined(bootstrap(measure, n_rows)), estimate)
    return list(_rounded({"low": low, "high": high}).values())


def counts_by_label(probabilities: NDArray[np.floating], labels: Sequence[str]) -> dict[str, Counts]:
    """Count probabilities, *Shape:* ``(n_rows, n_labels)``, by label and bin, in the precision of the scores table."""
    return dict(zip(labels, count_probabilities(probabilities.astype(np.float32)), strict=True))


def curves(probabilities: NDArray[np.floating], positive: NDArray[np.bool_]) -> dict[str, list[list[float]]]:
    """Return points over all labels together, empty where undefined; both arguments *Shape:* ``(n_rows, n_labels)``.

    ``precision_recall``: threshold, precision, recall; ``reliability``: mean probability of a bin, share of positives,
    number of cells.
    """
    found: dict[str, list[list[float]]] = {"precision_recall": [], "reliability": []}
    if positive.any():
        precision, recall, thresholds = precision_recall_curve(positive.ravel(), probabilities.ravel())
        # Evenly over recall: evenly over thresholds, nearly all points would be certain negatives.
        levels = np.linspace(0, 1, _MAX_CURVE_POINTS + 1)[1:]
        kept = np.unique(len(thresholds) - 1 - np.searchsorted(recall[-2::-1], levels - 1e-9))
        found["precision_recall"] = _points(thresholds[kept], precision[kept], recall[kept])
    cells = probabilities >= ECE_FLOOR
    if cells.any():
        bins = equal_mass_bins(probabilities[cells])
        counts = np.bincount(bins)
        sums = [np.bincount(bins, weights=values[cells]) for values in (probabilities, positive)]
        filled = counts > 0
        found["reliability"] = _points(*(values[filled] / counts[filled] for values in sums), counts[filled])
    return found


def _points(*columns: NDArray[Any]) -> list[list[float]]:
    return np.round(np.stack(columns, axis=1).astype(np.float64), 4).tolist()


def _rounded(values: Mapping[str, Any]) -> dict[str, float | int | None]:
    """Return plain Python numbers of 6 digits, and None for NaN."""
    return {
        name: int(value)
        if isinstance(value, int | np.integer)
        else (round(float(value), 6) if np.isfinite(value) else None)
        for name, value in values.items()
    }
