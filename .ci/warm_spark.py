"""Start Spark once, so that tests start it in less time: Delta's jars are fetched, and Java's classes archived.

Run by ``make`` before any test; the archive is in the environment's folder. Spark's resolver takes no lock: two
sessions that fetch the jars at the same time damage them. A JVM with the archive loads its classes without checks.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from pyspark import SparkContext
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ptec_udf.warehouse.session import WarehouseConfig, build_session
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.views import create_views


def main() -> None:
    """Write the archive when the JVM ends, which is waited for; a kill leaves none."""
    archive = Path(sys.prefix) / "classes.jsa"
    partial = archive.with_suffix(".partial")
    os.environ["SPARK_SUBMIT_OPTS"] = f"-XX:ArchiveClassesAtExit={partial} -Xlog:cds=off -Xlog:cds+dynamic=off"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        spark = build_session(WarehouseConfig(folder=folder))
        use(spark)
        spark.stop()
        assert SparkContext._gateway is not None
        java = SparkContext._gateway.proc
        java.stdin.close()  # which ends it
        java.wait()
    if partial.exists():  # not every JVM can
        partial.rename(archive)


def use(spark: SparkSession) -> None:
    """Do what every run does: create the tables, write in each way, start a Python worker, and read a view."""
    warehouse = Warehouse(spark)
    warehouse.ensure()
    create_views(spark, "ptec")
    warehouse.replace("labels", [], F.col("model_id") == "none")
    warehouse.put_row("models", {"model_id": "none"}, warehouse.old("models", "model_id") == "none")
    rows = spark.range(2).select(F.col("id").cast("string").alias("key")).repartition(2, "key")
    rows = rows.mapInPandas(lambda batches: batches, rows.schema)
    warehouse.merge_scores(rows.localCheckpoint(), model_id="none", run_id="none")
    spark.sql("SELECT reason, count(*) FROM ptec.why_changed GROUP BY reason ORDER BY 2").collect()


if __name__ == "__main__":
    main()
