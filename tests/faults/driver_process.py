"""A process that scores when it is told to: ``python -m tests.faults.driver_process SITE OWN [LEASE]``.

It has a Spark and a catalog of its own, as a driver on a site has, over the tables of SITE. Orders and answers are
files in OWN. A hold ends so many seconds after it was last kept up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from ptec_udf.config import ScoreConfig, WarehouseConfig
from ptec_udf.config_file import load_config
from ptec_udf.errors import HeldError, PtecError
from ptec_udf.nightly import hold
from ptec_udf.nightly.run import score
from ptec_udf.warehouse.embedded import DAEMON
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.session import build_session
from tests.faults.site import FaultSite
from tests.quick import QUICK

TABLES = (*SCHEMAS, "companies")
STOP = "stop"
REFUSED, FAILED = "refused", "failed"
MASTER = "local[2,4]"
_PARENT = os.getppid()


def main(site: FaultSite, own: Path, lease_s: str | None = None) -> None:
    """Score once for each order until there is one to stop."""
    if lease_s:
        hold.LEASE, hold._SECONDS_BETWEEN_RENEWALS = timedelta(seconds=int(lease_s)), int(lease_s) / 10
    spark = _session(site, own)
    (own / "ready").touch()
    at = 0
    while (order := _order(own / f"order-{at}.json")) != STOP:
        _write(own / f"answer-{at}.json", _night(spark, site, order))
        at += 1
    spark.stop()


def _session(site: FaultSite, own: Path) -> SparkSession:
    """Start Spark with an empty catalog and enter the site's tables in it."""
    settings = {
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={own / 'metastore'};create=true",
        "spark.sql.warehouse.dir": str(own / "tables"),
        "spark.databricks.delta.snapshotPartitions": 2,
        "spark.driver.memory": "1g",
        "spark.python.daemon.module": DAEMON,  # as an embedded session has it
        **QUICK,
    }
    spark = build_session(WarehouseConfig(folder=None, artifacts=str(own), master=MASTER, spark=settings), own.name)
    spark.sql("CREATE DATABASE IF NOT EXISTS ptec")
    for table in TABLES:
        spark.sql(f"CREATE TABLE ptec.{table} USING delta LOCATION '{site.table(table)}'")
    return spark


def _order(file: Path) -> Any:
    """Wait for what is to be done next."""
    while not file.exists():
        if os.getppid() != _PARENT:
            raise SystemExit("nobody is left to give orders")
        time.sleep(0.05)
    return json.loads(file.read_text(encoding="utf-8"))


def _night(spark: SparkSession, site: FaultSite, overrides: list[str]) -> dict[str, Any]:
    """Run a night and say how it ended."""
    assert spark._jvm is not None
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # the tables may have been put back to older versions
    fixed = ["warehouse.folder=null", f"warehouse.artifacts={site.folder / 'warehouse' / 'artifacts'}"]
    try:
        return score(spark, load_config(ScoreConfig, site.config, [*fixed, *overrides]))
    except HeldError as error:
        return {"outcome": REFUSED, "error": str(error)}
    except PtecError as error:
        return {"outcome": FAILED, "error": str(error)}


def _write(file: Path, value: Any) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value, default=str), encoding="utf-8")
    part.rename(file)


if __name__ == "__main__":
    main(FaultSite(Path(sys.argv[1])), Path(sys.argv[2]), *sys.argv[3:])
