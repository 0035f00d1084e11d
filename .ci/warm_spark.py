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

from ptec_udf.warehouse.session import WarehouseConfig, build_session

_STATEMENTS = (
    "CREATE TABLE numbers USING delta AS SELECT id % 7 AS a, count(*) AS n FROM range(100) GROUP BY 1",
    "MERGE INTO numbers USING (SELECT 1L AS a, 2L AS n) AS new ON numbers.a = new.a WHEN MATCHED THEN UPDATE SET *",
    "SELECT * FROM numbers ORDER BY n",
)


def main() -> None:
    """Write the archive when the JVM ends, which is waited for; a kill leaves none."""
    archive = Path(sys.prefix) / "classes.jsa"
    partial = archive.with_suffix(".partial")
    os.environ["SPARK_SUBMIT_OPTS"] = f"-XX:ArchiveClassesAtExit={partial} -Xlog:cds=off -Xlog:cds+dynamic=off"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        spark = build_session(WarehouseConfig(folder=folder))
        for statement in _STATEMENTS:
            spark.sql(statement).collect()
        spark.stop()
        assert SparkContext._gateway is not None
        java = SparkContext._gateway.proc
        java.stdin.close()  # which ends it
        java.wait()
    if partial.exists():  # not every JVM can
        partial.rename(archive)


if __name__ == "__main__":
    main()
