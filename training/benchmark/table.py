"""A benchmark's result as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from training.benchmark.compare import GROUPS

_NONE = "-"


def markdown(found: dict[str, Any]) -> str:
    """Write the tables of all methods and of their differences to the reference.

    Args:
        found: what ``benchmark`` found.
    """
    rows = found["rows"]
    methods, reference = found["methods"], found["reference"]
    lines = [
        f"{rows['train']} rows of train and {rows['validation']} of validation to learn from and to choose by; "
        f"measured on {rows[found['evaluated']]} rows of {found['evaluated']}. Figures are means over seeds, ± their "
        "spread, with the 95 % interval over rows in brackets.",
        "",
        *_table(_HEADER, [_method_row(name, figures, found["readings"]) for name, figures in methods.items()]),
    ]
    if found["differences"]:
        lines += [
            "",
            f"Difference of {reference} to each, with the 95 % interval of a paired bootstrap over rows:",
            "",
            *_table(
                ("method", "macro-F1", "mAP"),
                [
                    (name, _interval(figures["macro_f1"]), _interval(figures.get("map")))
                    for name, figures in found["differences"].items()
                ],
            ),
        ]
    lines += ["", "Settings, as given:", ""]
    lines += [f"- {name}: {json.dumps(settings)}" for name, settings in found["settings"].items()]
    lines += [_machine_line(**machine) for machine in found["machines"]]
    return "\n".join(lines) + "\n"


def _machine_line(machine: str, methods: Sequence[str], **days: str) -> str:
    when = days["from"] if days["from"] == days["to"] else f"{days['from']} to {days['to']}"
    return f"\nRun on {machine}, {when}: {', '.join(methods)}."


_HEADER = (
    "method",
    "seeds",
    "macro-F1",
    "mAP",
    "micro-F1",
    "weighted F1",
    "AUROC",
    "Brier skill",
    "ECE (by chance)",
    *(f"F1, labels with {group}" for group in GROUPS),
    "learns, s",
    "scores, s",
    "learns, FLOP",
    "scores a million, FLOP",
    "deployable",
    "readings",
)


def _method_row(name: str, figures: dict[str, Any], readings: dict[str, int]) -> tuple[str, ...]:
    ece, by_chance = figures["ece"], figures["ece_by_chance"]
    return (
        name,
        str(len(figures["seeds"])),
        *(
            _figure(figures[key]) + _plus_minus(figures["spread"][key]) + _range(figures["interval"].get(key))
            for key in ("macro_f1", "map")
        ),
        *(_figure(figures[key]) for key in ("micro_f1", "weighted_f1", "auroc", "brier_skill")),
        _NONE if ece is None else f"{_figure(ece)} ({_figure(by_chance)})",
        *(_figure(figures["f1_by_frequency"][group]) for group in GROUPS),
        f"{figures['learning_seconds']:.0f}",
        f"{figures['scoring_seconds']:.1f}",
        _power(figures["learning_flop"]),
        _power(figures["scoring_flop"]),
        "yes" if figures["deployable"] else "no",
        str(readings.get(name, 0)),
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _figure(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _power(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1e}"


def _plus_minus(value: float | None) -> str:
    return "" if value is None else f" ± {value:.3f}"


def _range(ends: dict[str, float | None] | None) -> str:
    return "" if ends is None or ends["low"] is None else f" ({ends['low']:.3f} to {ends['high']:.3f})"


def _interval(values: dict[str, float | None] | None) -> str:
    if values is None or values["low"] is None:
        return _NONE
    return f"{values['difference']:+.3f} ({values['low']:+.3f} to {values['high']:+.3f})"
