"""Figures of two models on the same rows, and their differences with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.calibrate.calibrate import Calibration
from training.evaluate.bootstrap import bootstrap_interval, resampled_differences
from training.evaluate.comparison import LABEL_FIGURE, Difference
from training.evaluate.metrics import average_precision_per_label, f1_per_label
from training.evaluate.report import report_on
from training.methods.method import Learned

FIGURES = ("map", "macro_f1", "micro_f1", "weighted_f1", "auroc", "brier_skill", "ece", "ece_by_chance")


@dataclass(frozen=True)
class Said:
    """What a model says of some rows, for some of its labels.

    Attributes:
        logits: *Shape:* ``(n_rows, n_labels)``.
        decided: which labels it gives, of the same shape.
        calibration: from logits to probabilities.
        thresholds: as probabilities, *Shape:* ``(n_labels,)``.
    """

    logits: NDArray[np.floating]
    decided: NDArray[np.bool_]
    calibration: Calibration
    thresholds: NDArray[np.float64]

    def values(self, metric: str) -> NDArray[Any]:
        """Return what a metric looks at."""
        return self.decided if metric == "macro_f1" else self.logits

    def figures(self, targets: NDArray[np.floating], labels: Sequence[str]) -> dict[str, float | None]:
        """Measure the model; base rates are those of the rows."""
        overall = report_on(self.logits, targets, self.calibration, self.thresholds, labels)["overall"]
        return {name: overall[name] for name in FIGURES}


def said_by(learned: Learned, texts: Sequence[str], own: Sequence[str], labels: Sequence[str]) -> Said:
    """Let a model score texts.

    Args:
        learned: the model.
        texts: of the rows.
        own: its labels, in its order.
        labels: those that are wanted, in the order that is wanted.
    """
    if learned.decisions is None:
        raise TypeError("a model that is registered has thresholds")
    at = [own.index(label) for label in labels]
    logits, decisions = np.asarray(learned.score(texts)), learned.decisions
    decided, calibration = decisions.decide(logits)[:, at], decisions.calibration.of_labels(at)
    return Said(logits[:, at], decided, calibration, decisions.thresholds[at])


def differences(
    champion: Said,
    challenger: Said,
    targets: NDArray[np.floating],
    labels: Sequence[str],
    resamples: int,
    confidence: float,
) -> list[Difference]:
    """Compare two models by a paired bootstrap over rows, in all labels together and in each.

    Args:
        champion: what is to be beaten.
        challenger: what is to be judged.
        targets: 0 or 1, *Shape:* ``(n_rows, n_labels)``.
        labels: names, *Shape:* ``(n_labels,)``.
        resamples: number of samples.
        confidence: of the intervals, which are those of ``bootstrap_interval``.
    """
    positive = targets.astype(bool)
    per_label: dict[str, Callable[..., Any]] = {"map": average_precision_per_label, "macro_f1": f1_per_label}
    overall, of_labels = [], []
    for metric, measure in per_label.items():
        values = [side.values(metric) for side in (champion, challenger)]
        each = resampled_differences(measure, values[1], values[0], positive, resamples)
        was, now = (measure(value, positive) for value in values)
        overall.append(
            _found(metric, None, int(positive.sum()), _means([was]), _means([now]), _means(each), confidence)
        )
        of_labels += [
            _found(
                LABEL_FIGURE[metric], label, int(positive[:, at].sum()), was[[at]], now[[at]], each[:, at], confidence
            )
            for at, label in enumerate(labels)
        ]
    return [*overall, *of_labels]


def _means(rows: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Average each row over the labels that occur; NaN where none does."""
    occurs = [row[~np.isnan(row)] for row in rows]
    return np.array([row.mean() if row.size else np.nan for row in occurs])


def _found(
    figure: str,
    label: str | None,
    positives: int,
    champion: NDArray[np.float64],
    challenger: NDArray[np.float64],
    resampled: NDArray[np.float64],
    confidence: float,
) -> Difference:
    """Lay out one figure: its values, *Shape:* ``(1,)``, and its resampled differences, *Shape:* ``(n,)``."""
    was, now = float(champion[0]), float(challenger[0])
    low, high = bootstrap_interval(resampled, now - was, confidence)
    rounded = [None if np.isnan(value) else round(float(value), 6) for value in (was, now, now - was, low, high)]
    names = ("champion", "challenger", "difference", "low", "high")
    return Difference(figure=figure, label=label, positives=positives, **dict(zip(names, rounded, strict=True)))
