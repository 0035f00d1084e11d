"""Write a page on the scores of an embedded warehouse: screens, their history, and why companies moved.

``python dashboard.py --config ptec.yaml --out dashboard.html``, for instance after each nightly run. The page is one
file without a server: it opens from a file share. It has keys, names and scores of companies, but no texts. It needs
deltalake, duckdb and sqlglot, the extra ``sql`` of the package.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

from ptec_udf.warehouse.duck import connect

FOLDER = Path(__file__).parent
LABELS = "SELECT label, min(threshold) FROM label_scores GROUP BY label ORDER BY label"
# Scores that the slider can reach, and all that are in a screen.
SCORES = """SELECT key, label, probability, has_label, corrected FROM label_scores
    WHERE probability >= CAST(? AS FLOAT) OR has_label OR corrected IS NOT NULL ORDER BY label, probability DESC, key"""
RUNS = """SELECT run_id, epoch(started) AS started, model FROM run_summary
    WHERE outcome = 'done' AND alias = 'champion' ORDER BY started DESC LIMIT ?"""
CHANGES = """SELECT key, label, run_id, entered, reason, old_probability, new_probability, old_threshold, new_threshold
    FROM why_changed ORDER BY changed_at DESC, label, key"""


class Numbers(dict[str, int]):
    """Numbers texts in the order in which they are first looked up."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]


def collect(warehouse: duckdb.DuckDBPyConnection, min_probability: float, max_runs: int) -> dict[str, Any]:
    """Read scores, runs and changes; companies, labels and runs are replaced by their positions."""
    runs = warehouse.execute(RUNS, [max_runs]).fetchall()
    if not runs:
        raise SystemExit("The warehouse has no finished run of the champion. Run: ptec score")
    thresholds = {label: rounded(threshold) for label, threshold in warehouse.execute(LABELS).fetchall()}
    companies, labels = Numbers(), Numbers((label, position) for position, label in enumerate(thresholds))
    scores = [
        (companies[key], labels[label], rounded(probability), has_label, corrected)
        for key, label, probability, has_label, corrected in warehouse.execute(SCORES, [min_probability]).fetchall()
    ]
    at = {run_id: position for position, (run_id, *_) in enumerate(runs)}
    changes = [
        (companies[key], labels[label], at[run_id], entered, reason, *map(rounded, numbers))
        for key, label, run_id, entered, reason, *numbers in warehouse.execute(CHANGES).fetchall()
        if run_id in at
    ]
    return {
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "model": runs[0][2],
        "min_probability": min_probability,
        "labels": [[label, thresholds.get(label)] for label in labels],
        "companies": [[key, None] for key in companies],
        "runs": [[run_id, started] for run_id, started, _ in runs],
        "scores": scores,
        "changes": changes,
    }


def rounded(number: float | None) -> float | None:
    """Shorten a number of 32 bits without changing it: nine digits are enough."""
    return None if number is None else float(f"{number:.9g}")


def add_names(warehouse: duckdb.DuckDBPyConnection, companies: list[list[str | None]], table: str, key: str) -> None:
    """Add the names of companies, if the source is a table of this warehouse with a column ``name``."""
    try:
        source = warehouse.table(table)
    except duckdb.CatalogException:  # a table of another warehouse
        return
    if "name" in source.columns:
        names = dict(source.select(duckdb.ColumnExpression(key).cast("VARCHAR"), "name").fetchall())
        for company in companies:
            company[1] = names.get(company[0])


def render(data: dict[str, Any]) -> str:
    """Write code and data into the page; an escaped < cannot end the script that has the data."""
    page, code = (FOLDER.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.js"))
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return page.replace("CODE_OF_THE_PAGE", code).replace("DATA_OF_THE_PAGE", text)


def main() -> None:
    """Read the options, collect, and replace the page as a whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("ptec.yaml"), help="site file")
    parser.add_argument("--out", type=Path, default=Path("dashboard.html"))
    parser.add_argument("--min-probability", type=float, default=0.1, help="leave out scores below it")
    parser.add_argument("--runs", type=int, default=60, help="number of runs in the history")
    options = parser.parse_args()
    site = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    settings = site["warehouse"]
    warehouse = connect(options.config.parent / settings["folder"], settings.get("database", "ptec"))
    data = collect(warehouse, options.min_probability, options.runs)
    source = site.get("source", {})
    if "table" in source:
        add_names(warehouse, data["companies"], source["table"], source.get("key", "key"))
    unfinished = options.out.with_suffix(".tmp")  # readers see the old page or the new one
    unfinished.write_text(render(data), encoding="utf-8")
    os.replace(unfinished, options.out)
    print(f"{options.out}: {len(data['companies']):,} companies, {len(data['runs'])} runs")  # noqa: T201


if __name__ == "__main__":
    main()
