"""A report's facts to HTML: what is drawn is worked out here, the words stand in the template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from ptec_udf.monitor.distribution import Counts
from ptec_udf.nightly.runs import FAILED

WIDTH, HEIGHT = 320, 200
"""Of a plot, in its own units."""

NOTHING = "\N{EN DASH}"

_LABELS_SHOWN = 12
"""On the first screen; all of them stand further down."""

_FARTHEST_SHOWN = 10
"""Of the figures over their limit; the others are opened."""


def render(facts: dict[str, Any]) -> str:
    """Return the report of what ``collect`` gathered."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "moment": moment,
        "duration": duration,
        "probability": probability,
    }
    environment.globals |= {
        "plot_line": plot_line,
        "sparkline": sparkline,
        "bars": bars,
        "width": WIDTH,
        "height": HEIGHT,
        "farthest_shown": _FARTHEST_SHOWN,
    }
    template = environment.from_string((files("jobs.report") / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(**facts, **summary(facts))


def summary(facts: dict[str, Any]) -> dict[str, Any]:
    """Work out what the first screen says."""
    run, labels = facts["run"], facts["labels"]
    counts = {status: n for status, n in (run["counts"] or {}).items() if status != "null_key"}
    sides = {side: sum(row[side]["companies"] for row in labels if row[side]) for side in ("entered", "left")}
    drift = facts["drift"]
    return {
        "now": datetime.now(UTC),
        "seconds": (run["ended"] - run["started"]).total_seconds(),
        "written": 0 if run["outcome"] == FAILED else sum(counts.values()),  # counts of errors, where they are too many
        "counts": counts,
        "entered": sides["entered"],
        "left": sides["left"],
        "moved": [row for row in labels if row["moved"]][:_LABELS_SHOWN],
        "is_compared": any(_indices(row) for row in drift),
        "figures": {(row["population"], row["figure"]): row for row in drift if row["label"] is None},
        "farthest": sorted(
            (row for row in labels if row["drift"]), key=lambda row: -max(_indices(row["drift"]), default=-1.0)
        ),
        "splits": facts["model"]["metrics"].get("splits", {}),
    }


def _indices(row: dict[str, Any]) -> list[float]:
    return [value for value in (row["psi_training"], row["psi_runs"]) if value is not None]


def plot_line(points: Iterable[tuple[float, float]]) -> str:
    """Return points of a polyline, x and y from 0 to 1."""
    return " ".join(f"{x * WIDTH:.1f},{(1 - y) * HEIGHT:.1f}" for x, y in points)


def sparkline(values: Sequence[float], width: int = 90, height: int = 20) -> str:
    """Return points of a small line, from the least to the greatest value."""
    low, high = min(values), max(values)
    spread, step = (high - low) or 1.0, width / max(1, len(values) - 1)
    return " ".join(
        f"{at * step:.1f},{height - 1 - (value - low) / spread * (height - 2):.1f}" for at, value in enumerate(values)
    )


def bars(counts: Counts) -> list[tuple[str, int, float]]:
    """Return name, companies and share of each bin: numbers in their order, categories by size."""
    total = sum(counts.values()) or 1
    numbers = all(name.replace(".", "", 1).isdigit() for name in counts)
    ordered = sorted(counts.items(), key=(lambda one: float(one[0])) if numbers else (lambda one: -one[1]))
    return [(name, n, n / total) for name, n in ordered]


def number(value: float | None, digits: int = 0) -> str:
    """Write a number with thin groups of thousands."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share as per cent."""
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def probability(value: float | None) -> str:
    """Write a probability."""
    return NOTHING if value is None else f"{value:.3f}"


def moment(value: datetime | None) -> str:
    """Write a moment in UTC."""
    return NOTHING if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """Write seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes >= 10 else f"{minutes} min {rest} s"
