"""A process that scores when it is told to: ``python -m tests.faults.at_once_worker FOLDER NUMBER``.

It has a Spark and a catalog of its own, as a driver on a site has, over tables that it shares with others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from ptec_udf.config import ScoreConfig, WarehouseConfig, load_config
from ptec_udf.errors import HeldError, PtecError
from ptec_udf.nightly.score import score
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.session import build_session
from tests.faults.site import QUICK

TABLES = (*SCHEMAS, "companies")
STOP = "stop"
_PARENT = os.getppid()


def main(folder: Path, number: int) -> None:
    """Score once for each order until there is one to stop."""
    spark = _session(folder, number)
    (folder / f"ready-{number}").touch()
    at = 0
    while (order := _order(folder, at)) != STOP:
        found = _night(spark, folder, order[number])
        _write(folder / f"done-{at}-{number}.json", found)
        at += 1
    spark.stop()


def _session(folder: Path, number: int) -> SparkSession:
    """Start Spark with an empty catalog and enter the shared tables in it."""
    own = folder / f"driver-{number}"
    settings = {
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={own / 'metastore'};create=true",
        "spark.sql.warehouse.dir": str(own / "tables"),
        "spark.databricks.delta.snapshotPartitions": 2,
        "spark.driver.memory": "1g",
        **QUICK,
    }
    config = WarehouseConfig(folder=None, artifacts=str(own), master="local[1,4]", spark=settings)
    spark = build_session(config, f"driver {number}")
    spark.sql("CREATE DATABASE IF NOT EXISTS ptec")
    for table in TABLES:
        place = folder / "site" / "warehouse" / "tables" / "ptec.db" / table
        spark.sql(f"CREATE TABLE ptec.{table} USING delta LOCATION '{place}'")
    return spark


def _order(folder: Path, at: int) -> Any:
    """Wait for what is to be done next."""
    file = folder / f"order-{at}.json"
    while not file.exists():
        if os.getppid() != _PARENT:
            raise SystemExit("nobody is left to give orders")
        time.sleep(0.05)
    return json.loads(file.read_text(encoding="utf-8"))


def _night(spark: SparkSession, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Run a night and say how it ended."""
    fixed = ["warehouse.folder=null", f"warehouse.artifacts={folder}", "source.table=ptec.companies", "source.key=key"]
    config = load_config(ScoreConfig, None, [*fixed, "engine.dtype=float32", "slice_texts=60", *overrides])
    try:
        result = score(spark, config)
    except HeldError as error:
        return {"outcome": "refused", "error": str(error)}
    except PtecError as error:
        return {"outcome": "failed", "error": str(error)}
    return {name: result[name] for name in ("outcome", "run_id", "model_id", "source_version", "counts")}


def _write(file: Path, value: Any) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.rename(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
