"""A year of runs on one warehouse: seconds of runs and queries, and sizes of tables, month by month.

Run it so::

    python -m benchmarks.year ARTIFACT --out docs/benchmarks/year

Before each run the clock moves by a day, for Spark and Python alike, so that housekeeping and Delta find rows, files
and logs as old as they would be. Spark gets it by libfaketime (Debian: ``apt install faketime``).
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pyspark.sql import SparkSession

from benchmarks.clock import SETTINGS, Clock
from benchmarks.common import MasterOption, OutOption, run, table
from benchmarks.machine import write_results
from benchmarks.runs import columns_of, make_champion
from jobs.cli_nightly import housekeeping, score
from jobs.site import Site
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse.schemas import SCHEMAS

WEEK, MONTH = 7, 30
FIRST = 5
"""Run of the first measurement; each takes the median of the last runs, this many."""

_TABLES = ("scores", "score_changes", "drift", "runs")
_QUERIES = {
    "a screen": "SELECT * FROM ptec.screen('{label}', NULL)",
    "a company": "SELECT label, probability FROM ptec.label_scores WHERE key = '{key}'",
    "why it changed": "SELECT * FROM ptec.why_changed('{key}')",
    "the last runs": "SELECT run_id, outcome, counts FROM ptec.runs ORDER BY ended DESC LIMIT 7",
}
_WORDS = (
    "we build software machines for farms banks hospitals and sell them in many countries with new tools that help "
    "teams plan payments energy travel music food insurance data cloud robots chips medicine schools homes cars ships"
)

app = typer.Typer(add_completion=False)


@dataclass
class Warehouse:
    """The site, its companies, and what was measured.

    Attributes:
        file: the site file.
        clock: of Spark and Python.
        companies: key to text.
        seconds: of each run.
        months: measurements.
    """

    file: Path
    clock: Clock
    companies: dict[str, str]
    seconds: list[float] = field(default_factory=list)
    months: list[dict[str, Any]] = field(default_factory=list)

    @property
    def spark(self) -> SparkSession:
        """The session of all runs."""
        return Site(self.file).session("ptec year")

    def change_companies(self) -> None:
        """Change one text in 100, remove one company in 1,000 and add as many."""
        draw, keys = random.Random(self.clock.days), sorted(self.companies)
        for key in draw.sample(keys, max(1, len(keys) // 100)):
            self.companies[key] = f"{self.companies[key]} {self.clock.days}"
        n_new = max(1, len(keys) // 1000)
        for key in draw.sample(keys, n_new):
            del self.companies[key]
        self.companies |= {f"d{self.clock.days}-{at}": text for at, text in enumerate(make_texts(n_new, draw))}

    def run(self, *, keeps_house: bool) -> None:
        """Let a day pass, change companies, score, and keep house once a week."""
        self.clock.next_day()
        self.change_companies()
        frame = self.spark.createDataFrame(list(self.companies.items()), "key string, text string")
        frame.coalesce(1).write.format("delta").mode("overwrite").save(str(self.file.parent / "companies"))
        started = time.monotonic()
        outcome = score(Site(self.file))["outcome"]
        self.seconds.append(time.monotonic() - started)
        if outcome != "done":
            raise RuntimeError(f"run {self.clock.days}: {outcome}")
        if keeps_house and self.clock.days % WEEK == 0:
            housekeeping(Site(self.file))
        self.clock.set_ages(self.file.parent)

    def measure(self) -> None:
        """Measure queries and tables."""
        label = str(self.spark.table("ptec.labels").first()["name"]).replace("'", "\\'")  # type: ignore[index]
        values = {"label": label, "key": max(self.companies)}
        found: dict[str, Any] = {"run": self.clock.days, "run_s": statistics.median(self.seconds[-FIRST:])}
        found["queries"] = {name: self.time_query(query.format(**values)) for name, query in _QUERIES.items()}
        found["tables"] = {name: self.size(name) for name in SCHEMAS}
        self.months.append(found)
        logger.info(f"run {self.clock.days}: {found['run_s']:.1f} s, {found['queries']}")

    def time_query(self, query: str) -> float:
        """Return the median seconds of a warm query."""
        seconds = []
        for _ in range(6):
            started = time.monotonic()
            self.spark.sql(query).collect()
            seconds.append(time.monotonic() - started)
        return statistics.median(seconds[1:])

    def size(self, name: str) -> dict[str, Any]:
        """Measure the newest version of a table."""
        detail = self.spark.sql(f"DESCRIBE DETAIL ptec.{name}").collect()[0]
        rows = self.spark.table(f"ptec.{name}").count()
        return {"rows": rows, "files": detail["numFiles"], "mb": detail["sizeInBytes"] / 1e6}


def make_texts(n: int, draw: random.Random) -> list[str]:
    """Make texts of 4 to 12 words; a number makes each different."""
    words = _WORDS.split()
    return [f"{draw.random()} {' '.join(draw.choices(words, k=draw.randint(3, 11)))}" for _ in range(n)]


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model.")],
    runs: Annotated[int, typer.Option(min=1, help="Runs, a day apart.")] = 365,
    companies: Annotated[int, typer.Option(min=200, help="Companies of the first run.")] = 2_000,
    keep_days: Annotated[int | None, typer.Option(min=1, help="Older rows are removed; else none.")] = 90,
    weekly: Annotated[bool, typer.Option(help="Keep house once a week.")] = True,
    master: MasterOption = "local[*,4]",
    out: OutOption = Path("docs/benchmarks/year"),
) -> None:
    """Score day by day, and measure each month."""
    with tempfile.TemporaryDirectory() as name:
        folder, clock = Path(name), Clock(Path(name) / "clock")
        spark = SETTINGS | {"spark.driver.memory": "3g"}
        content = {
            "warehouse": {"folder": str(folder / "warehouse"), "master": master, "spark": spark},
            "source": {"path": str(folder / "companies"), "key": "key", "columns": columns_of(str(artifact))},
            "engine": {"dtype": "float32"},
            "housekeeping": {"keep_days": dict.fromkeys((*_TABLES,), keep_days)},
        }
        (folder / "ptec.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        first = {f"c{at:07d}": text for at, text in enumerate(make_texts(companies, random.Random(0)))}
        warehouse = Warehouse(folder / "ptec.yaml", clock, first)
        with clock.move_python():
            with clock.move_java():
                warehouse.spark.sparkContext  # noqa: B018 starts the JVM
            make_champion(artifact, warehouse.file)
            for at in range(1, runs + 1):
                warehouse.run(keeps_house=weekly)
                if at % MONTH == 0 or at in (FIRST, runs):
                    warehouse.measure()
            warehouse.spark.stop()
    facts = {"artifact": load_artifact(artifact).model_id, "companies": companies, "keep_days": keep_days}
    write_results(out, {**facts, "months": warehouse.months}, _lines(warehouse.months))


def _lines(months: Sequence[dict[str, Any]]) -> list[str]:
    seconds = [
        [month["run"], f"{month['run_s']:.1f}", *(f"{month['queries'][name]:.2f}" for name in _QUERIES)]
        for month in months
    ]
    sizes = []
    for month in months:
        tables = [month["tables"][name] for name in _TABLES]
        sizes.append([month["run"], *(f"{of['rows']:,}; {of['mb']:.2f}; {of['files']}" for of in tables)])
    return [
        *table(["after run", f"a run, s (median of {FIRST})", *(f"{name}, s" for name in _QUERIES)], seconds),
        "",
        "Rows; megabytes and files of the newest version:",
        "",
        *table(["after run", *(f"`{name}`" for name in _TABLES)], sizes),
    ]


if __name__ == "__main__":
    run(app)
