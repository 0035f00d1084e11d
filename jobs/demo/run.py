"""``ptec demo``: every step on shipped fictional companies, in one folder, in a few minutes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ptec_jobs.cli_data import extract
from ptec_jobs.cli_model import promote, register, train
from ptec_jobs.cli_nightly import score
from ptec_jobs.site import FILE_NAME, Site
from ptec_udf.errors import ConfigError
from ptec_udf.log import logger

SHIPPED = Path(__file__).parent
MARK = ".ptec-demo"
TABLE = "ptec.companies"
SCHEMA = (
    "company_id string, name string, tags array<string>, one_liner string, description string, "
    "industries array<string>, split string"
)


def run(folder: Path) -> dict[str, Any]:
    """Extract, train, register, promote, score three times, query.

    Raise ConfigError when the folder contains files that no demo made.
    """
    folder = folder.resolve()
    _clear(folder)
    shutil.copy(SHIPPED / FILE_NAME, folder)
    site = Site(folder / FILE_NAME)
    spark = site.session("ptec demo")
    logger.info("\n1. a table of fictional companies")
    _companies(spark, "companies.jsonl").write.format("delta").saveAsTable(TABLE)
    logger.info("\n2. extract")
    extracted = extract(site)
    logger.info("\n3. train")
    model = train(site)
    logger.info("\n4. register and promote")
    model_id = register(site, folder / "artifact", "demo")["model_id"]
    promote(site, model_id, why="the demo's first model")
    logger.info("\n5. the first run")
    runs = [score(site)]
    logger.info("\n6. companies change, join and leave; the second run")
    _change(spark)
    runs.append(score(site))
    logger.info("\n7. the same run again")
    runs.append(score(site))
    shown = ("run_id", "outcome", "source_version", "counts", "skipped", "reused")
    return {
        "folder": str(folder),
        "labels": len(extracted["labels"]),
        "model_id": model_id,
        "training_seconds": model["seconds"],
        "dev": {name: model["metrics"]["dev"][name] for name in ("macro_f1", "map")},
        **_queries(spark),
        "runs": [{name: result[name] for name in shown} for result in runs],
        "next": f"cd {folder} && ptec sql \"SELECT * FROM label_scores WHERE key = 'C0001'\"",
    }


def _clear(folder: Path) -> None:
    """Empty the folder of an earlier demo, and no other one."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise ConfigError(f"--folder must be absent, empty or of an earlier demo, was: {str(folder)!r}")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def _companies(spark: SparkSession, file: str) -> DataFrame:
    """Read shipped companies."""
    lines = (SHIPPED / file).read_text(encoding="utf-8").splitlines()
    return spark.createDataFrame([json.loads(line) for line in lines], SCHEMA)


def _change(spark: SparkSession) -> None:
    """Change some companies, add some, remove some."""
    companies = DeltaTable.forName(spark, TABLE)
    changes = _companies(spark, "changes.jsonl")
    merge = companies.alias("old").merge(changes.alias("new"), "old.company_id = new.company_id")
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
    removed = json.loads((SHIPPED / "removed.json").read_text(encoding="utf-8"))
    companies.delete(F.col("company_id").isin(removed))


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
