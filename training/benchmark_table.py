"""The figures of a benchmark's runs, alone and against the reference, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_training.evaluate.metrics import average_precision, bootstrap, f1, interval, mean_of_defined

FIGURES = ("macro_f1", "map", "micro_f1", "brier_skill", "ece", "ece_by_chance")
_COMPARED = ("macro_f1", "map")
_SECONDS = ("learning_seconds", "scoring_seconds")


@dataclass(frozen=True)
class Run:
    """Facts (JSON-ready), decisions and logits, if any, of a method with one seed, *Shape:* ``(n_rows, n_labels)``."""

    facts: dict[str, Any]
    decided: NDArray[np.bool_]
    logits: NDArray[np.floating] | None


def compare(runs: Sequence[Run], targets: NDArray[np.floating], reference: str) -> dict[str, Any]:
    """Summarise runs by method, and the reference minus each method; targets have *Shape:* ``(n_rows, n_labels)``.

    ``spread`` is the standard deviation over seeds; intervals are of the (paired) bootstrap over rows.
    """
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.facts["name"], []).append(run)
    samples = {name: _samples(those, targets) for name, those in by_name.items()}
    methods = {name: _summary(those, samples[name]) for name, those in by_name.items()}
    differences: dict[str, dict[str, Any]] = {name: {} for name in methods if name != reference}
    for name, of_figures in differences.items():
        for figure in samples[name].keys() & samples[reference].keys():
            difference = methods[reference][figure] - methods[name][figure]
            ends = _ends(samples[reference][figure] - samples[name][figure], difference)
            of_figures[figure] = {"difference": round(difference, 6), **ends}
    return {"reference": reference, "methods": methods, "differences": differences}


def _samples(runs: Sequence[Run], targets: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Bootstrap the compared figures of one method, averaged over its seeds."""
    measures = {"macro_f1": [f1(run.decided, targets) for run in runs]}
    if of_logits := [average_precision(run.logits, targets) for run in runs if run.logits is not None]:
        measures["map"] = of_logits
    return {
        figure: np.mean([mean_of_defined(bootstrap(measure, len(targets))) for measure in those], axis=0)
        for figure, those in measures.items()
    }


def _summary(runs: Sequence[Run], samples: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Average the runs of one method; figures that it does not have are None."""
    facts = [run.facts for run in runs]
    means, spread = dict.fromkeys(FIGURES), dict.fromkeys(FIGURES)
    for name in FIGURES:
        values = [one["figures"][name] for one in facts]
        if None not in values:
            means[name] = round(float(np.mean(values)), 6)
            spread[name] = round(float(np.std(values)), 6) if len(values) > 1 else None
    return {
        "seeds": [one["seed"] for one in facts],
        "deployable": facts[0]["deployable"],
        **means,
        **{name: round(float(np.mean([one[name] for one in facts])), 2) for name in _SECONDS},
        "spread": spread,
        "interval": {name: _ends(those, means[name]) for name, those in samples.items()},
    }


def _ends(samples: NDArray[np.float64], estimate: float | None) -> dict[str, float | None]:
    ends = interval(samples, np.nan if estimate is None else estimate)
    low, high = (None if np.isnan(end) else round(end, 6) for end in ends)
    return {"low": low, "high": high}


def markdown(found: dict[str, Any]) -> str:
    """Write the result of ``benchmark`` as Markdown tables."""
    rows, reference = found["rows"], found["reference"]
    header = ("method", "seeds", "macro-F1", "mAP", "micro-F1", "Brier skill", "ECE (by chance)", "learning, s")
    differences = [
        [name, *(_signed(one.get(figure)) for figure in _COMPARED)] for name, one in found["differences"].items()
    ]
    lines = [
        f"Learned from {rows['train']} rows of train and {rows['validation']} of validation, evaluated on "
        f"{rows[found['evaluated']]} rows of {found['evaluated']}. Means over seeds ± their standard deviation, "
        "with the 95 % interval over rows.",
        "",
        *_table((*header, "scoring, s"), [_method_row(name, one) for name, one in found["methods"].items()]),
        "",
        f"{reference} minus each method, with the 95 % interval of a paired bootstrap over rows:",
        "",
        *_table(("method", "macro-F1", "mAP"), differences),
        "",
        *(f"Run on {machine}." for machine in sorted({run["machine"] for run in found["runs"]})),
    ]
    return "\n".join(lines) + "\n"


def _method_row(name: str, figures: dict[str, Any]) -> list[str]:
    compared = []
    for figure in _COMPARED:
        spread, ends = figures["spread"][figure], figures["interval"].get(figure)
        around = "" if spread is None else f" ± {spread:.3f}"
        compared.append(f"{_number(figures[figure])}{around}" + (f" ({_range(ends, '.3f')})" if ends else ""))
    micro_f1, skill, ece, by_chance = (_number(figures[one]) for one in FIGURES[2:])
    title = name if figures["deployable"] else f"{name} (not deployable)"
    seconds = f"{figures['learning_seconds']:.0f}", f"{figures['scoring_seconds']:.1f}"
    return [title, str(len(figures["seeds"])), *compared, micro_f1, skill, f"{ece} ({by_chance})", *seconds]


def _signed(one: dict[str, float] | None) -> str:
    return "-" if one is None else f"{one['difference']:+.3f} ({_range(one, '+.3f')})"


def _range(ends: dict[str, float], form: str) -> str:
    return f"{ends['low']:{form}} to {ends['high']:{form}}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
