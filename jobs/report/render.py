"""Write the facts of a report as one HTML file; the words are in the template."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from ptec_jobs.report.collect import collect, find_run
from ptec_jobs.report.trust import STATES, judge
from ptec_jobs.site import Site
from ptec_udf.errors import ConfigError
from ptec_udf.monitor.distribution import Counts
from ptec_udf.nightly.runs import FAILED, NULL_KEY
from ptec_udf.warehouse.folder import make_folder

PLOT_SIZE = 320, 200


def write_report(site: Site, out: Path, *, run_id: str | None, model_id: str | None, alias: str) -> dict[str, Any]:
    """Write the report of a run; see ``find_run``.

    Raise ConfigError if the file cannot be written or both a run and a model are named, RegistryError without one.
    """
    if run_id is not None and model_id is not None:
        raise ConfigError("set --run or --model, not both: a run has one model")
    if not out.name or (out.exists() and not out.is_file()):
        raise ConfigError(f"--out must be a file, was {'the folder ' if out.is_dir() else ''}{str(out)!r}")
    out = out.resolve()  # a link stays a link
    make_folder(out.parent, "the folder of --out")
    warehouse = site.open_warehouse("ptec report")
    run = find_run(warehouse, run_id=run_id, model_id=model_id, alias=alias)
    page = render(collect(warehouse, run))
    part = out.with_name(f".{out.name}.part")  # a reader never sees half a page
    try:
        part.write_text(page, encoding="utf-8")
        os.replace(part, out)
    except OSError as error:
        raise ConfigError(f"--out must be a file that can be written, was: {str(out)!r} ({error.strerror})") from None
    return {"report": str(out), "run_id": run["run_id"], "model_id": run["model_id"], "bytes": len(page.encode())}


def render(facts: dict[str, Any], now: datetime | None = None) -> str:
    """Return the page of the facts from ``collect``."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "percent": _percent, "moment": _moment, "duration": duration}
    environment.globals |= {"bars": bars, "width": PLOT_SIZE[0], "height": PLOT_SIZE[1]}
    template = environment.from_string((files("ptec_jobs.report") / "report.html.j2").read_text(encoding="utf-8"))
    page = facts | _summary(facts) | {"now": now or datetime.now(UTC)}
    states = judge(page)
    return template.render(**page, states=states, worst=max(states.values(), key=STATES.index))


def _summary(facts: dict[str, Any]) -> dict[str, Any]:
    run, labels, drift = facts["run"], facts["labels"], facts["drift"]
    counts = {status: n for status, n in (run["counts"] or {}).items() if status != NULL_KEY}
    figures = {(row["population"], row["figure"]): row for row in drift if row["label"] is None}
    n_scored = run["skipped"] + sum(n for status, n in counts.items() if status != "removed")
    splits = facts["model"]["metrics"].get("splits", {})
    sides = [side for row in labels for side in (row["entered"], row["left"]) if side]
    return {
        "n_checked": figures["all", "status"]["companies"] if ("all", "status") in figures else n_scored,
        "n_written": 0 if run["outcome"] == FAILED else sum(counts.values()),
        "n_errors": sum(kind["companies"] for kind in facts["errors"]),
        "by_reason": sum((Counter(side["reasons"]) for side in sides), Counter[str]()),
        "moved": [row for row in labels if row["moved"]],
        "is_compared": any(_largest_index(row) >= 0 for row in drift),
        "figures": figures,
        "measured": sorted((row for row in labels if row["drift"]), key=lambda row: -_largest_index(row["drift"])),
        "splits": splits,
        "held_out": next((splits[name]["overall"] for name in ("test", "dev") if name in splits), {}),
    }


def _largest_index(row: dict[str, Any]) -> float:
    return max((row[name] for name in ("psi_training", "psi_runs") if row[name] is not None), default=-1.0)


def bars(counts: Counts, figure: str) -> list[tuple[str, int, float]]:
    """Return name, companies and share of each bin: lengths in their order, categories by size."""
    total = sum(counts.values()) or 1
    ordered = sorted(counts.items(), key=lambda one: float(one[0]) if figure == "tokens" else -one[1])
    return [(name, n, n / total) for name, n in ordered]


def _number(value: float | None, digits: int = 0) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f} %"


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """Return seconds as text: 42 s, 12 min 34 s or 2 h 1 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
