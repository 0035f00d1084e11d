"""``ptec demo``: every step on shipped fictional companies, in one folder, in a few minutes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.cli_data import extract
from jobs.cli_model import promote, register, train
from jobs.cli_nightly import score
from jobs.output import show_pairs, show_rows
from jobs.site import FILE_NAME, Site
from ptec_udf.errors import ConfigError
from ptec_udf.log import logger

MARK = ".ptec-demo"
TABLE = "ptec.companies"
SCHEMA = (
    "company_id string, name string, tags array<string>, one_liner string, description string, "
    "industries array<string>, split string"
)
SITE: dict[str, Any] = {
    "warehouse": {"folder": "warehouse"},
    "source": {"table": TABLE, "key": "company_id"},
    "extract": {
        "template": "Company name: {name}. Keywords: {tags}. Description: {one_liner} {description}",
        "labels": {"column": "industries", "min_positives": 10},
        "split": {"column": "split"},
        "out": "extract",
    },
    "train": {
        "out": "artifact",
        "stopping": {"epochs": 9, "patience": 6, "validation_share": 0.2},
        "optimiser": {"batch_size": 16},
    },
}
"""Site file of the demo; its paths are relative to the demo's folder."""


def run(folder: Path) -> dict[str, Any]:
    """Extract, train, register, promote, score three times, query.

    Raises:
        ConfigError: when the folder contains files that no demo made.
    """
    folder = folder.resolve()
    _clear(folder)
    (folder / FILE_NAME).write_text(yaml.safe_dump(SITE, sort_keys=False), encoding="utf-8")
    site = Site(folder / FILE_NAME)
    spark = site.session("ptec demo")

    logger.info("\n1. a table of companies")
    _frame(spark, "companies.jsonl").write.format("delta").saveAsTable(TABLE)
    logger.info("\n2. extract")
    extracted = extract(site)
    logger.info("\n3. train")
    model = train(site)
    logger.info("\n4. register and promote")
    model_id = register(site, folder / "artifact", "demo")["model_id"]
    promote(site, model_id, why="the demo's first model")
    logger.info("\n5. the first run")
    first = score(site)
    logger.info("\n6. companies change, join and leave; the second run")
    _change(spark)
    second = score(site)
    logger.info("\n7. the same run again")
    third = score(site)
    return {
        "folder": str(folder),
        "labels": extracted["labels"],
        "model_id": model_id,
        "training_seconds": model["seconds"],
        "dev": {name: model["metrics"]["dev"][name] for name in ("macro_f1", "map")},
        "runs": [_shown(result) for result in (first, second, third)],
        **_queries(spark),
    }


def show(result: dict[str, Any]) -> None:
    """Print what the demo did and what an analyst would see."""
    show_pairs({name: value for name, value in result.items() if name not in ("runs", "screen", "why_changed")})
    logger.info("\nthe runs")
    show_rows(result["runs"])
    logger.info(f"\ncompanies with the highest probability in screen({_literal(result['label'])}, NULL)")
    show_rows(result["screen"])
    logger.info("\nwhy_changed, without new companies")
    show_rows(result["why_changed"])
    logger.info(f"\neverything is in {result['folder']}; a query of your own:")
    logger.info(f"cd {result['folder']} && {_command()} sql \"SELECT * FROM label_scores WHERE key = 'C0001'\"")


def _clear(folder: Path) -> None:
    """Empty the folder of an earlier demo, and no other one."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise ConfigError(f"--folder must be absent, empty or of an earlier demo, was: {str(folder)!r}")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def _frame(spark: SparkSession, name: str) -> DataFrame:
    """Read shipped companies."""
    lines = (files("jobs.demo") / name).read_text(encoding="utf-8").splitlines()
    columns = [column.split()[0] for column in SCHEMA.split(", ")]
    rows: Sequence[Any] = [tuple(json.loads(line).get(column) for column in columns) for line in lines]
    return spark.createDataFrame(rows, SCHEMA)


def _change(spark: SparkSession) -> None:
    """Change some companies, add some, remove some."""
    companies = DeltaTable.forName(spark, TABLE)
    changes = _frame(spark, "changes.jsonl")
    merge = companies.alias("old").merge(changes.alias("new"), "old.company_id = new.company_id")
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
    removed = json.loads((files("jobs.demo") / "removed.json").read_text(encoding="utf-8"))
    companies.delete(F.col("company_id").isin(removed))


def _shown(result: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a run's row that the demo prints."""
    names = ("run_id", "outcome", "source_version", "counts", "skipped", "reused", "tokens", "padding")
    return {name: result[name] for name in names}


def _queries(spark: SparkSession) -> dict[str, Any]:
    """Query the tables as an analyst would."""
    common = spark.sql(
        "SELECT label FROM ptec.label_scores WHERE has_label GROUP BY label ORDER BY count(*) DESC, label LIMIT 1"
    ).first()
    label = common["label"] if common else ""
    screen = spark.sql(
        "SELECT s.key, c.name, round(s.probability, 3) AS probability FROM ptec.screen(:label, NULL) AS s "
        "JOIN ptec.companies AS c ON c.company_id = s.key ORDER BY s.probability DESC LIMIT 8",
        args={"label": label},
    )
    changed = spark.sql(
        "SELECT key, label, entered, reason, round(old_probability, 3) AS old, round(new_probability, 3) AS new, "
        "source_version FROM ptec.why_changed WHERE reason <> 'new' ORDER BY changed_at, key, label"
    )
    return {
        "label": label,
        "screen": [row.asDict() for row in screen.collect()],
        "why_changed": [row.asDict() for row in changed.collect()],
    }


def _command() -> str:
    """Return the command ``ptec`` as a shell finds it."""
    started = Path(sys.argv[0])
    return str(started) if started.name == "ptec" and shutil.which("ptec") is None else "ptec"


def _literal(text: str) -> str:
    """Write a text as an SQL literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
