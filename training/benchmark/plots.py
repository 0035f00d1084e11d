"""A benchmark's result as pictures; of a method with several seeds, its first run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from training.benchmark.compare import Judge
from training.benchmark.results import Run
from training.evaluate.metrics import ECE_FLOOR, equal_mass_bins, f1_per_label

_SIZE = (7.0, 5.0)  # inches
_GROUPS = 6  # of labels, by frequency


def draw(runs: Sequence[Run], judge: Judge, folder: Path) -> None:
    """Draw precision and recall, reliability, and F1 by label frequency.

    Args:
        runs: of any number of methods and seeds.
        judge: the evaluated rows.
        folder: where the pictures go.
    """
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.facts.name, run)
    pictures: dict[str, Callable[[Axes, dict[str, Run], Judge], None]] = {
        "precision_recall.png": _precision_recall,
        "reliability.png": _reliability,
        "f1_by_frequency.png": _f1_by_frequency,
    }
    for name, picture in pictures.items():
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        picture(axes, first, judge)
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
        figure.savefig(folder / name, dpi=120)


def _precision_recall(axes: Axes, runs: dict[str, Run], judge: Judge) -> None:
    """A curve over all cells for each method with scores, a point for each that only decides."""
    truth = judge.targets.astype(bool)
    for name, run in runs.items():
        if run.decisions is None:
            hits = (run.decided & truth).sum()
            axes.plot(hits / truth.sum(), hits / max(run.decided.sum(), 1), "o", label=name)
        else:
            probabilities = run.decisions.calibration.probabilities(run.logits)
            precision, recall, _ = precision_recall_curve(truth.ravel(), probabilities.ravel())
            axes.plot(recall, precision, label=name)
    axes.set(xlabel="recall over all decisions", ylabel="precision", xlim=(0, 1), ylim=(0, 1))


def _reliability(axes: Axes, runs: dict[str, Run], judge: Judge) -> None:
    """Share of positives against probability, in the bins of the calibration error."""
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="perfect")
    for name, run in runs.items():
        if run.decisions is None:
            continue
        probabilities = run.decisions.calibration.probabilities(run.logits)
        kept = probabilities >= ECE_FLOOR
        if kept.any():
            bins = equal_mass_bins(probabilities[kept])
            filled = np.unique(bins)
            said, found = (
                [values[kept][bins == at].mean() for at in filled] for values in (probabilities, judge.targets)
            )
            axes.plot(said, found, marker="o", markersize=3, label=name)
    axes.set(xlabel=f"probability, from {ECE_FLOOR} on", ylabel="share of positives", xlim=(0, 1), ylim=(0, 1))


def _f1_by_frequency(axes: Axes, runs: dict[str, Run], judge: Judge) -> None:
    """Mean F1 of labels that are about equally frequent in training."""
    counts = judge.training_targets.sum(axis=0)
    occurring = np.flatnonzero(judge.targets.any(axis=0))
    groups = np.array_split(occurring[np.argsort(counts[occurring])], min(_GROUPS, len(occurring)))
    for name, run in runs.items():
        f1 = f1_per_label(run.decided, judge.targets.astype(bool))
        axes.plot(
            [np.median(counts[group]) for group in groups],
            [f1[group].mean() for group in groups],
            marker="o",
            label=name,
        )
    axes.set(xlabel="training rows of a label (median of its group)", ylabel="mean F1", xscale="log", ylim=(0, 1))
