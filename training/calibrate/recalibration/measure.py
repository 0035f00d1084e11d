"""What parameters are worth on labelled rows, those that fitted them too: each row is judged by what others fitted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.monitor.training import PREDICTED, PROBABILITIES, figures_by_label
from training.calibrate.cross_fit import FOLDS, folds
from training.calibrate.recalibration.parameters import Parameters
from training.calibrate.recalibration.rows import LabelledLogits
from training.evaluate.metrics import calibration_error, macro_f1
from training.evaluate.report import counts_by_label

# Of a report of training, what is drawn from probabilities.
_DRAWN = ("probabilities", "curves")
# What another calibration and other thresholds leave as it is: counts, and how rows rank.
_STAYS = {"n_rows", "n_labels", "n_labels_that_occur", "positives", "map", "ap", "auroc"}

Fit = Callable[[NDArray[np.float64], NDArray[np.bool_]], Parameters]


def measured(parameters: Parameters, rows: LabelledLogits) -> dict[str, float | None]:
    """Measure parameters on rows that did not fit them."""
    return _figures(*parameters.decide(rows.logits), rows.targets)


def cross_fitted(fit: Fit, rows: LabelledLogits) -> dict[str, float | None]:
    """Measure a way to fit on the rows that fit: a fifth at a time, by what the others give.

    Args:
        fit: from logits and targets to parameters.
        rows: labelled rows.
    """
    fold = folds(rows.targets, np.random.default_rng(0))
    probabilities, decisions = np.zeros(rows.targets.shape), np.zeros(rows.targets.shape, bool)
    for part in range(FOLDS):
        judged = fold == part
        fitted = fit(rows.logits[~judged], rows.targets[~judged])
        probabilities[judged], decisions[judged] = fitted.decide(rows.logits[judged])
    return _figures(probabilities, decisions, rows.targets)


def reference_of(parameters: Parameters, rows: LabelledLogits, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return by label what nights under the parameters are to be like; see ``figures_by_label``."""
    probabilities, decisions = parameters.decide(rows.logits)
    counts, predicted = counts_by_label(probabilities, names), decisions.sum(axis=0).tolist()
    return {name: {PROBABILITIES: counts[name], PREDICTED: n} for name, n in zip(names, predicted, strict=True)}


def reference_kept(metrics: dict[str, Any], changed: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return a model's own reference, for one that differs from it in thresholds of some labels alone."""
    return {
        name: figures | ({PREDICTED: None} if name in changed else {})
        for name, figures in figures_by_label(metrics).items()
    }


def ranking_only(splits: dict[str, Any]) -> dict[str, Any]:
    """Return what training reported by split, without the figures that its calibration or thresholds decided."""
    return {
        split: {key: _ranking(part) for key, part in figures.items() if key not in _DRAWN}
        for split, figures in splits.items()
    }


def _ranking(part: dict[str, Any]) -> dict[str, Any]:
    """Set to None what does not stay; a report's part holds figures, or such parts by label."""
    return {
        name: _ranking(value) if isinstance(value, dict) else (value if name in _STAYS else None)
        for name, value in part.items()
        if name not in _DRAWN
    }


def _figures(
    probabilities: NDArray[np.float64], decisions: NDArray[np.bool_], targets: NDArray[np.bool_]
) -> dict[str, float | None]:
    ece, by_chance, _ = calibration_error(probabilities, targets)
    figures = {"macro_f1": macro_f1(decisions, targets), "ece": ece, "ece_by_chance": by_chance}
    return {name: round(value, 6) if np.isfinite(value) else None for name, value in figures.items()}
