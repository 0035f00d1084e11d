"""A year of nights on one warehouse: what nights and queries take, and how large the tables are, month by month.

Run it so::

    python -m benchmarks.year ARTIFACT --out docs/benchmarks/year

Before each night the clock goes on by a day, for Spark and Python alike, so that housekeeping and Delta find rows,
files and logs as old as they would be. Spark gets it by libfaketime (Debian: ``apt install faketime``). With
``--folder`` the same command goes on after the last night that ended.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import MasterOption, OutOption, run, table
from benchmarks.machine import write_results
from benchmarks.year_of_nights import LAST_OF_MONTH, Year, run_year
from ptec_udf.model.artifact import load_artifact

_TABLES = ("scores", "score_changes", "drift", "runs")

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model.")],
    nights: Annotated[int, typer.Option(min=1, help="Nights, a day apart.")] = 365,
    companies: Annotated[int, typer.Option(min=200, help="Companies of the first night.")] = 2_000,
    keep_days: Annotated[int | None, typer.Option(min=1, help="Rows that are older are removed; else none.")] = 90,
    weekly: Annotated[bool, typer.Option(help="Keep house once a week.")] = True,
    master: MasterOption = "local[*,4]",
    folder: Annotated[Path | None, typer.Option(help="Where the warehouse is kept; else it is thrown away.")] = None,
    out: OutOption = Path("docs/benchmarks/year"),
) -> None:
    """Run the nights, and lay out what each month ended with."""
    year = Year(str(artifact.resolve()), nights, companies, keep_days, weekly, master)
    with tempfile.TemporaryDirectory() as thrown_away:
        kept = (folder or Path(thrown_away)).resolve()
        kept.mkdir(parents=True, exist_ok=True)
        months = run_year(year, kept)
    facts = {**asdict(year), "artifact": load_artifact(artifact).model_id, "months": months}
    write_results(out, facts, _lines(months))


def _lines(months: Sequence[dict[str, Any]]) -> list[str]:
    """Lay months out as Markdown: seconds, then sizes."""
    queries = list(months[0]["queries"])
    seconds = [
        [month["night"], f"{month['night_s']:.1f}", *(f"{month['queries'][name]:.2f}" for name in queries)]
        for month in months
    ]
    sizes = [
        [
            month["night"],
            *(
                f"{size['rows']:,}; {size['mb']:.2f}; {size['files']}; {size['files_on_disk']}; {size['log_files']}"
                for size in (month["tables"][name] for name in _TABLES)
            ),
            f"{month['warehouse_mb']:.0f}",
        ]
        for month in months
    ]
    first = ["after night", f"a night, s (median of {LAST_OF_MONTH})", *(f"{name}, s" for name in queries)]
    return [
        *table(first, seconds),
        "",
        "Rows; megabytes and files of the newest version; data files on disk; files of the log:",
        "",
        *table(["after night", *(f"`{name}`" for name in _TABLES), "all tables on disk, MB"], sizes),
    ]


if __name__ == "__main__":
    run(app)
