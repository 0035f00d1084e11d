"""Whether drift signals when companies change, and is silent when they do not.

Run it so::

    python -m benchmarks.drift ARTIFACT POOL.parquet --out docs/benchmarks/drift

POOL contains companies that the model has not learned from, with its template's columns and ``industries``. A source
grows in each run by companies drawn from it; then, in other databases, by companies of few industries, in German,
or with half of their texts. The German texts are our own.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml
from pyspark.sql import SparkSession

from benchmarks.common import DtypeOption, MasterOption, OutOption, run, table
from benchmarks.machine import write_results
from ptec_jobs.cli_model import promote, register
from ptec_jobs.cli_nightly import score
from ptec_jobs.site import Site
from ptec_udf.config import WarehouseConfig
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.text.template import parse_template
from ptec_udf.warehouse.session import build_session

_SHIFTED = 2
_INDUSTRIES = {"broad": slice(5), "sectors": slice(5, 10)}
"""Ranks of the industries that newcomers have, by companies: the greatest, which most have anyway, or the next."""

_GERMAN = (
    "Wir entwickeln Software für die Verwaltung von Gebäuden und Wohnungen.",
    "Das Unternehmen verkauft Maschinen an Betriebe der Landwirtschaft und berät sie bei der Ernte.",
    "Unsere Plattform hilft Banken, Kredite schneller zu prüfen und Betrug zu erkennen.",
    "Mit unserer App lernen Kinder rechnen, und Lehrer sehen, wo sie noch Hilfe brauchen.",
    "Wir bauen Roboter, die in Lagern Pakete sortieren und auf Lastwagen laden.",
    "Ärzte nutzen unsere Geräte, um Krankheiten des Herzens früh zu entdecken.",
    "Der Anbieter vermittelt Versicherungen für kleine Firmen und ist dabei ganz digital.",
    "Wir liefern frische Lebensmittel aus der Region an Kantinen und Schulen.",
    "Das Team forscht an Batterien, die ohne seltene Metalle auskommen und lange halten.",
    "Unsere Werkzeuge schützen Netze von Behörden vor Angriffen aus dem Internet.",
)

Row = dict[str, Any]
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Kind:
    """The newcomers of the last runs: drawn from ``newcomers`` and changed, after ``before`` quiet runs."""

    newcomers: Sequence[Row]
    before: int
    change: Callable[[Row], Row] = dict


@dataclass
class Growing:
    """A source that grows in a database of its own, and the model that scores it.

    Attributes:
        spark: the session.
        warehouse: its configuration.
        name: of the database.
        dtype: of the backbone.
        rows: the companies so far.
        runs: results of the runs.
    """

    spark: SparkSession
    warehouse: dict[str, Any]
    name: str
    dtype: str
    rows: list[Row] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, artifact: Path, folder: Path) -> None:
        """Register the model."""
        settings = self.warehouse | {"database": self.name}
        source = {"table": f"{self.name}.companies", "key": "company_id"}
        content = {"warehouse": settings, "source": source, "engine": {"dtype": self.dtype}}
        self.config = folder / f"{self.name}.yaml"
        self.config.write_text(yaml.safe_dump(content), encoding="utf-8")
        model_id = register(Site(self.config), artifact, "measured")["model_id"]
        promote(Site(self.config), model_id, why="benchmark")

    def add_and_score(self, more: Sequence[Row]) -> None:
        """Add companies and score."""
        self.rows += [row | {"company_id": f"c{len(self.rows) + at}"} for at, row in enumerate(more)]
        frame = self.spark.createDataFrame(pa.Table.from_pylist(self.rows).to_pandas())
        frame.write.format("delta").mode("overwrite").saveAsTable(f"{self.name}.companies")
        result = score(Site(self.config))
        self.runs.append({name: result[name] for name in ("drifted", "retrain", "counts")})
        logger.info(f"{self.name}, run {len(self.runs)}: {len(result['drifted'])} over, retrain {result['retrain']}")


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model.")],
    pool: Annotated[Path, typer.Argument(help="Parquet file of companies that it has not learned from.")],
    first: Annotated[int, typer.Option(help="Companies of the first run.")] = 1_000,
    nightly: Annotated[int, typer.Option(help="Companies that each later run adds.")] = 120,
    quiet: Annotated[int, typer.Option(min=_SHIFTED, help="Runs that must signal nothing.")] = 30,
    before: Annotated[int, typer.Option(min=1, help="Runs before a shift begins, the first one included.")] = 5,
    shift: Annotated[list[str] | None, typer.Option(help="Only these newcomers; may be repeated.")] = None,
    dtype: DtypeOption = "bfloat16",
    master: MasterOption = "local[*,4]",
    out: OutOption = Path("docs/benchmarks/drift"),
) -> None:
    """Run quiet runs, and for each shift a few of them before it."""
    fields = parse_template(load_artifact(artifact).manifest.template).fields
    rows = [{name: row.get(name) for name in (*fields, "industries")} for row in pq.read_table(pool).to_pylist()]
    found: dict[str, Any] = {}
    kinds = _kinds(rows, fields, before, quiet)
    if unknown := set(shift or []) - set(kinds):
        raise typer.BadParameter(f"a shift must be one of {list(kinds)}, was: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        warehouse = {"folder": f"{folder}/warehouse", "master": master}
        spark = build_session(WarehouseConfig.model_validate(warehouse))
        for name, kind in kinds.items():
            if shift and name not in shift:
                continue
            growing = Growing(spark, warehouse, name, dtype)
            growing.begin(artifact, Path(folder))
            draw = random.Random(0)
            for at in range(kind.before):
                growing.add_and_score(draw.choices(rows, k=nightly if at else first))
            for _ in range(_SHIFTED):
                growing.add_and_score([kind.change(row) for row in draw.choices(kind.newcomers, k=nightly)])
            found[name] = growing.runs
        spark.stop()
    facts = {"artifact": load_artifact(artifact).model_id, "first": first, "nightly": nightly, "dtype": dtype}
    write_results(out, facts | {"runs": found}, _table(found))


def _kinds(rows: Sequence[Row], fields: Sequence[str], before: int, quiet: int) -> dict[str, Kind]:
    """Return the kinds of newcomers; the quiet ones equal the earlier runs."""
    longest = max(fields, key=lambda name: sum(len(str(row[name] or "")) for row in rows))
    draw = random.Random(1)
    counts = Counter(industry for row in rows for industry in row["industries"] or ())
    ranked = sorted(counts, key=lambda industry: (-counts[industry], industry))

    def german(row: Row) -> Row:
        return row | dict.fromkeys(fields) | {longest: " ".join(draw.sample(_GERMAN, 4))}

    def halved(row: Row) -> Row:
        return row | {name: str(row[name])[: len(str(row[name])) // 2] for name in fields if row[name]}

    kinds = {"quiet": Kind(rows, quiet + 1 - _SHIFTED)}
    for name, ranks in _INDUSTRIES.items():
        kinds[name] = Kind([row for row in rows if {*ranked[ranks]}.intersection(row["industries"] or ())], before)
    return kinds | {"german": Kind(rows, before, german), "halved": Kind(rows, before, halved)}


def _table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Lay the runs out as Markdown."""
    rows = []
    for name, runs in found.items():
        over = [at for at, one in enumerate(runs, 1) if one["drifted"]]
        signals = [at for at, one in enumerate(runs, 1) if one["retrain"]]
        farthest = runs[-1]["drifted"][0] if runs[-1]["drifted"] else "-"
        rows.append([name, len(runs), over or "none", signals or "none", farthest.replace("|", "/")])
    return table(["companies", "runs", "over a limit in", "signal in", "largest drift of the last run"], rows)


if __name__ == "__main__":
    run(app)
