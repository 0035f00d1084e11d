"""What a benchmark's runs are worth on the evaluated rows, alone and against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.benchmark.resample import Figures, resampled
from training.benchmark.results import Run
from training.calibrate.calibrate import Calibration
from training.evaluate.bootstrap import bootstrap_interval, without_bias
from training.evaluate.report import report_on

OF_DECISIONS = ("macro_f1", "micro_f1", "weighted_f1")
OF_SCORES = ("map", "auroc", "brier", "brier_skill", "ece", "ece_by_chance")
GROUPS = {"at least 100": (100, np.inf), "under 100": (0, 100), "at least 50": (50, np.inf), "under 50": (0, 50)}
"""Labels by their number of training examples."""


@dataclass(frozen=True)
class Judge:
    """The evaluated rows and what is known of training.

    Attributes:
        names: the labels.
        targets: of the evaluated rows, *Shape:* ``(n_rows, n_labels)``.
        training_targets: of train and validation, for base rates and frequencies of labels.
        resamples: number of bootstrap samples.
    """

    names: list[str]
    targets: NDArray[np.floating]
    training_targets: NDArray[np.floating]
    resamples: int

    def measure(self, run: Run) -> dict[str, Any]:
        """Return the figures of one run; those that need scores are None where there are only decisions."""
        n_labels = len(self.names)
        if run.decisions is None:
            no_shift, thresholds = Calibration(np.ones(n_labels), np.zeros(n_labels)), np.full(n_labels, 0.5)
            report = report_on(2 * run.logits - 1, self.targets, no_shift, thresholds, self.names)
        else:
            calibration, thresholds = run.decisions.calibration, run.decisions.thresholds
            report = report_on(run.logits, self.targets, calibration, thresholds, self.names, self._base_rates)
        figures = {name: report["overall"][name] for name in OF_DECISIONS}
        figures |= {name: report["overall"][name] if run.decisions else None for name in OF_SCORES}
        per_label = list(report["per_label"].values())
        return {**figures, "f1_by_frequency": self._by_frequency([label["f1"] for label in per_label])}

    def resample(self, run: Run) -> Figures:
        """Return the figures of one run on resampled rows."""
        return resampled(run, self.targets, self._base_rates, self.resamples)

    @property
    def _base_rates(self) -> NDArray[np.floating]:
        return self.training_targets.mean(axis=0)

    def _by_frequency(self, values: Sequence[float | None]) -> dict[str, float | None]:
        counts = self.training_targets.sum(axis=0)
        found = {}
        for group, (least, below) in GROUPS.items():
            inside = [
                value
                for value, count in zip(values, counts, strict=True)
                if value is not None and least <= count < below
            ]
            found[group] = round(float(np.mean(inside)), 6) if inside else None
        return found


def compare(runs: Sequence[Run], judge: Judge, reference: str) -> dict[str, Any]:
    """Measure all runs.

    Args:
        runs: of any number of methods and seeds.
        judge: the evaluated rows.
        reference: name of the method whose runs the others are compared with.

    Returns:
        ``methods``: by name, the mean over seeds of every figure, the 95 % intervals of a bootstrap over rows of these
        means, the population standard deviation over seeds, and the mean seconds and floating-point operations.
        ``differences``: by name, the reference minus the method, each figure a mean over seeds, with the interval over
        the same samples of rows, and the share of them in which the reference is better.
    """
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.facts.name, []).append(run)
    methods = {name: _summary(those, judge) for name, those in by_name.items()}
    samples = {name: _mean_samples([judge.resample(run) for run in those]) for name, those in by_name.items()}
    for name, figures in methods.items():
        figures["interval"] = {figure: _interval(values, figures[figure]) for figure, values in samples[name].items()}
    differences = {
        name: {
            figure: _difference(figure, *((methods[side], samples[side]) for side in (reference, name)))
            for figure in ("macro_f1", "map")
            if methods[reference][figure] is not None and methods[name][figure] is not None
        }
        for name in methods
        if name != reference
    }
    return {"methods": methods, "differences": differences}


def machines(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Say of each machine which methods ran on it and when; runs of old that do not tell are left out."""
    by_machine: dict[str, list[Run]] = {}
    for run in runs:
        if run.facts.machine:
            by_machine.setdefault(run.facts.machine, []).append(run)
    return [
        {
            "machine": machine,
            "methods": sorted({run.facts.name for run in those}),
            "from": min(run.facts.made for run in those),
            "to": max(run.facts.made for run in those),
        }
        for machine, those in by_machine.items()
    ]


def _summary(runs: Sequence[Run], judge: Judge) -> dict[str, Any]:
    """Average runs of one method."""
    measured = [judge.measure(run) for run in runs]
    groups = [figures.pop("f1_by_frequency") for figures in measured]
    return {
        "seeds": [run.facts.seed for run in runs],
        "deployable": runs[0].facts.deployable,
        **_means(measured),
        "spread": {name: _spread([figures[name] for figures in measured]) for name in (*OF_DECISIONS, *OF_SCORES)},
        "f1_by_frequency": _means(groups),
        "learning_seconds": round(float(np.mean([run.facts.learning_seconds for run in runs])), 1),
        "scoring_seconds": round(float(np.mean([run.facts.scoring_seconds for run in runs])), 2),
        **_means([{name: getattr(run.facts, name) for name in ("learning_flop", "scoring_flop")} for run in runs]),
    }


def _means(rows: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Average each figure; None where any run lacks it."""
    found: dict[str, float | None] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        defined = [value for value in values if value is not None]
        found[name] = round(float(np.mean(defined)), 6) if len(defined) == len(values) else None
    return found


def _spread(values: Sequence[float | None]) -> float | None:
    """Population standard deviation, as the paper gives it; None for a single run."""
    defined = [value for value in values if value is not None]
    return round(float(np.std(defined)), 6) if len(defined) > 1 else None


def _mean_samples(runs: Sequence[Figures]) -> Figures:
    """Average each figure that all runs have, sample by sample."""
    return {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0] if all(name in run for run in runs)}


def _difference(
    figure: str, reference: tuple[dict[str, Any], Figures], other: tuple[dict[str, Any], Figures]
) -> dict[str, Any]:
    """Compare a figure of the reference with another method's, on the same resampled rows."""
    samples = reference[1][figure] - other[1][figure]
    difference = reference[0][figure] - other[0][figure]
    moved = without_bias(samples, difference)
    return {
        "difference": round(difference, 6),
        **_interval(samples, difference),
        "share_positive": round(float((moved > 0).mean()), 6) if moved.size else None,
    }


def _interval(samples: NDArray[np.float64], around: float | None) -> dict[str, float | None]:
    """Lay out an interval of 95 %; None where nothing is defined."""
    ends = bootstrap_interval(samples, np.nan if around is None else around)
    low, high = (None if np.isnan(end) else round(end, 6) for end in ends)
    return {"low": low, "high": high}
