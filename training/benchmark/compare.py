"""The figures of a benchmark's runs, alone and against the reference, and their table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.benchmark.config import BenchmarkConfig
from training.evaluate.bootstrap import interval, means_of_defined, resampled_average_precision, resampled_f1
from training.evaluate.metrics import macro_f1
from training.evaluate.report import report_on

if TYPE_CHECKING:
    from training.benchmark.run import Run

FIGURES = ("macro_f1", "map", "micro_f1", "auroc", "brier_skill", "ece", "ece_by_chance")
_COMPARED = ("macro_f1", "map")


def compare(
    runs: Sequence[Run], targets: NDArray[np.floating], training_targets: NDArray[np.floating], config: BenchmarkConfig
) -> dict[str, Any]:
    """Measure all runs.

    Args:
        runs: of any number of methods and seeds.
        targets: of the evaluated rows, *Shape:* ``(n_rows, n_labels)``.
        training_targets: of train and validation, for base rates.
        config: names the reference and the number of resamples.

    Returns:
        ``methods``: by name, the mean over seeds of every figure, its standard deviation over seeds (``spread``) and
        the 95 % interval over rows; ``differences``: by name, the reference minus the method, with the interval of the
        paired bootstrap.
    """
    positive, rates = targets.astype(bool), training_targets.mean(axis=0)
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.facts.name, []).append(run)
    samples = {
        name: {
            figure: np.mean([_samples(run, figure, positive, config.resamples) for run in those], axis=0)
            for figure in _COMPARED
            if figure == "macro_f1" or those[0].decisions is not None
        }
        for name, those in by_name.items()
    }
    methods = {name: _summary(those, positive, rates, samples[name]) for name, those in by_name.items()}
    reference = config.reference
    differences = {
        name: {
            figure: _difference(figure, (methods[reference], samples[reference]), (methods[name], samples[name]))
            for figure in samples[name]
            if figure in samples[reference]
        }
        for name in methods
        if name != reference
    }
    return {"reference": reference, "methods": methods, "differences": differences}


def _samples(run: Run, figure: str, positive: NDArray[np.bool_], n: int) -> NDArray[np.float64]:
    if figure == "macro_f1":
        return means_of_defined(resampled_f1(run.decided, positive, n))
    return means_of_defined(resampled_average_precision(run.logits, positive, n))


def _summary(
    runs: Sequence[Run],
    positive: NDArray[np.bool_],
    rates: NDArray[np.floating],
    samples: dict[str, NDArray[np.float64]],
) -> dict[str, Any]:
    """Average the runs of one method."""
    measured = [_figures(run, positive, rates) for run in runs]
    found: dict[str, Any] = {"seeds": [run.facts.seed for run in runs], "deployable": runs[0].facts.deployable}
    spread: dict[str, float | None] = {}
    for name in FIGURES:
        values = [figures[name] for figures in measured]
        defined = [value for value in values if value is not None]
        found[name] = round(float(np.mean(defined)), 6) if len(defined) == len(values) else None
        spread[name] = round(float(np.std(defined)), 6) if len(defined) > 1 else None
    for name in ("learning_seconds", "scoring_seconds"):
        found[name] = round(float(np.mean([getattr(run.facts, name) for run in runs])), 2)
    return found | {"spread": spread, "interval": {name: _ends(those, found[name]) for name, those in samples.items()}}


def _figures(run: Run, positive: NDArray[np.bool_], rates: NDArray[np.floating]) -> dict[str, float | None]:
    """Measure one run; figures that need scores are None where there are only decisions."""
    if run.decisions is None:
        micro = 2 * (run.decided & positive).sum() / (run.decided.sum() + positive.sum())
        return dict.fromkeys(FIGURES) | {"macro_f1": macro_f1(run.decided, positive), "micro_f1": float(micro)}
    calibration, thresholds = run.decisions.calibration, run.decisions.thresholds
    names = [str(at) for at in range(positive.shape[1])]
    overall = report_on(run.logits, positive, calibration, thresholds, names, rates)["overall"]
    return {name: overall[name] for name in FIGURES}


def _difference(figure: str, reference: tuple[dict, dict], other: tuple[dict, dict]) -> dict[str, float | None]:
    difference = reference[0][figure] - other[0][figure]
    return {"difference": round(difference, 6), **_ends(reference[1][figure] - other[1][figure], difference)}


def _ends(samples: NDArray[np.float64], estimate: float | None) -> dict[str, float | None]:
    ends = interval(samples, np.nan if estimate is None else estimate)
    low, high = (None if np.isnan(end) else round(end, 6) for end in ends)
    return {"low": low, "high": high}


_HEADER = (
    "method",
    "seeds",
    "macro-F1",
    "mAP",
    "micro-F1",
    "Brier skill",
    "ECE (by chance)",
    "learning, s",
    "scoring, s",
)


def markdown(found: dict[str, Any]) -> str:
    """Write the result of ``benchmark`` as Markdown tables."""
    rows, reference = found["rows"], found["reference"]
    lines = [
        f"Learned from {rows['train']} rows of train and {rows['validation']} of validation, evaluated on "
        f"{rows[found['evaluated']]} rows of {found['evaluated']}. Means over seeds ± their standard deviation, "
        "with the 95 % interval over rows.",
        "",
        *_table(_HEADER, [_method_row(name, figures) for name, figures in found["methods"].items()]),
        "",
        f"{reference} minus each method, with the 95 % interval of a paired bootstrap over rows:",
        "",
        *_table(
            ("method", "macro-F1", "mAP"),
            [[name, *(_signed(one.get(key)) for key in _COMPARED)] for name, one in found["differences"].items()],
        ),
        "",
        "Settings:",
        "",
        *(f"- {name}: {json.dumps(settings)}" for name, settings in found["settings"].items()),
        "",
        *(f"Run on {machine}." for machine in sorted({run["machine"] for run in found["runs"]})),
    ]
    return "\n".join(lines) + "\n"


def _method_row(name: str, figures: dict[str, Any]) -> list[str]:
    return [
        name if figures["deployable"] else f"{name} (not deployable)",
        str(len(figures["seeds"])),
        *(_with_interval(figures, key) for key in _COMPARED),
        *(_number(figures[key]) for key in ("micro_f1", "brier_skill")),
        f"{_number(figures['ece'])} ({_number(figures['ece_by_chance'])})",
        f"{figures['learning_seconds']:.0f}",
        f"{figures['scoring_seconds']:.1f}",
    ]


def _with_interval(figures: dict[str, Any], key: str) -> str:
    spread, ends = figures["spread"][key], figures["interval"].get(key)
    around = f" ± {spread:.3f}" if spread is not None else ""
    within = f" ({ends['low']:.3f} to {ends['high']:.3f})" if ends and ends["low"] is not None else ""
    return f"{_number(figures[key])}{around}{within}"


def _signed(one: dict[str, float] | None) -> str:
    if one is None or one["low"] is None:
        return "-"
    return f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
