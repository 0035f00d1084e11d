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

from jobs import extract as extract_job
from jobs import promote as promote_job
from jobs import score as score_job
from jobs import train as train_job
from jobs.command import show_pairs, show_rows
from ptec_udf.config import WarehouseConfig
from ptec_udf.errors import ConfigError
from ptec_udf.log import logger
from ptec_udf.warehouse.embedded import check_free
from ptec_udf.warehouse.session import build_session

MARK = ".ptec-demo"
TABLE = "ptec.companies"
TEMPLATE = "Company name: {name}. Keywords: {tags}. Description: {one_liner} {description}"
SCHEMA = (
    "company_id string, name string, tags array<string>, one_liner string, description string, "
    "industries array<string>, split string"
)


def run(folder: Path) -> dict[str, Any]:
    """Train, register, promote, score two nights, query.

    Raises:
        ConfigError: when the folder holds something that no demo made.
    """
    folder = folder.resolve()
    _clear(folder)
    configs = _write_configs(folder)
    spark = build_session(WarehouseConfig(folder=str(folder / "warehouse")), "ptec demo")

    logger.info("\n1. a table of companies")
    _frame(spark, "companies.jsonl").write.format("delta").saveAsTable(TABLE)
    logger.info("\n2. extract")
    extract = extract_job.run(configs["extract"], [])
    logger.info("\n3. train")
    model = train_job.run(configs["train"], [])
    logger.info("\n4. register and promote")
    model_id = promote_job.run_register(folder / "artifact", "demo", configs["score"], [])["model_id"]
    promote_job.run_promote(model_id, "champion", "the demo's first model", configs["score"], [])
    logger.info("\n5. the first night")
    first = score_job.run(configs["score"], [])
    logger.info("\n6. companies change, come and go; the second night")
    _change(spark)
    second = score_job.run(configs["score"], [])
    logger.info("\n7. the same night again")
    third = score_job.run(configs["score"], [])
    return {
        "folder": str(folder),
        "labels": extract["labels"],
        "model_id": model_id,
        "training_seconds": model["seconds"],
        "dev": {name: model["metrics"]["dev"][name] for name in ("macro_f1", "map")},
        "nights": [_night(result) for result in (first, second, third)],
        **_queries(spark),
    }


def show(result: dict[str, Any]) -> None:
    """Print what the demo did and what an analyst would see."""
    show_pairs({name: value for name, value in result.items() if name not in ("nights", "screen", "why_changed")})
    logger.info("\nthe nights")
    show_rows(result["nights"])
    logger.info(f"\nthe likeliest companies of screen({_literal(result['label'])}, NULL), with their names")
    show_rows(result["screen"])
    logger.info("\nwhy_changed, without companies that are new")
    show_rows(result["why_changed"])
    logger.info(f"\neverything is in {result['folder']}; ask more with:")
    logger.info(
        f"{_command()} sql --config {result['folder']}/score.yaml \"SELECT * FROM label_scores WHERE key = 'C0001'\""
    )


def _clear(folder: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise ConfigError(f"--folder must be absent, empty or an earlier demo's, was: {str(folder)!r}")
        check_free(folder / "warehouse")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def _write_configs(folder: Path) -> dict[str, Path]:
    """Write the three configurations of this demo, for the person to go on with."""
    warehouse = {"folder": str(folder / "warehouse")}
    contents: dict[str, dict[str, Any]] = {
        "extract": {
            "warehouse": warehouse,
            "source": {"table": TABLE, "key": "company_id"},
            "template": TEMPLATE,
            "labels": {"column": "industries", "min_positives": 10},
            "split": {"column": "split"},
            "out": str(folder / "extract"),
        },
        "train": {
            "extract": str(folder / "extract"),
            "out": str(folder / "artifact"),
            "stopping": {"epochs": 9, "patience": 6, "validation_share": 0.2},
            "optimiser": {"batch_rows": 16},
        },
        "score": {"warehouse": warehouse, "source": {"table": TABLE, "key": "company_id"}},
    }
    paths = {}
    for name, content in contents.items():
        paths[name] = folder / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return paths


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


def _night(result: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a run's row that the demo shows."""
    names = ("run_id", "outcome", "source_version", "counts", "skipped", "reused", "tokens", "padding")
    return {name: result[name] for name in names}


def _queries(spark: SparkSession) -> dict[str, Any]:
    """Ask what an analyst would."""
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
    """Name ``ptec`` so that a shell finds it."""
    started = Path(sys.argv[0])
    return str(started) if started.name == "ptec" and shutil.which("ptec") is None else "ptec"


def _literal(text: str) -> str:
    """Write a text as an SQL literal, to be shown."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
