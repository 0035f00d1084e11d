"""A warehouse in one folder: its settings of Spark, and its catalog, which takes one process at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pyspark.sql import SparkSession

from ptec_udf.errors import WarehouseBusyError
from ptec_udf.log import logger
from ptec_udf.warehouse.jars import remembered_jars

# Where the session that this package built keeps its tables; absent in a session of the site.
FOLDER_SETTING = "spark.ptec.folder"

# Sizes for one machine; Spark's own (200, 50 and 10,000 partitions) are made for a cluster.
_SIZES = {
    "spark.sql.shuffle.partitions": "8",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",  # VACUUM lists each table in so many tasks
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.driver.memory": "2g",  # the driver is the executor too; 1g, Spark's own, fills up in one night
}

DAEMON = "ptec_udf.engine.daemon"
"""Module that imports what Python workers need before it forks them."""

_RUNS = "runs_at_work"
"""File of a warehouse that names the process which has it, and its runs."""

# The JVM of a command that was killed holds the catalog for some seconds more.
_LOCK_WAIT_S = 20.0


def embedded_settings(folder: Path, packages: str) -> dict[str, str]:
    """Say where the tables, the catalog and its log of an embedded warehouse are.

    Args:
        folder: of the warehouse.
        packages: Maven coordinates of Delta, in place of which jars are named once they are known.
    """
    return {
        **_SIZES,
        **remembered_jars(folder, packages),
        "spark.python.daemon.module": DAEMON,
        FOLDER_SETTING: str(folder),
        "spark.sql.warehouse.dir": str(folder / "tables"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder / 'metastore'};create=true",
    }


def open_metastore(spark: SparkSession, folder: Path) -> None:
    """Connect to the catalog now, so that a busy one is said in one sentence.

    Raises:
        WarehouseBusyError: if another process has it.
    """
    try:
        spark.catalog.databaseExists("default")
    except Exception as error:
        spark.stop()
        if "SessionHiveMetaStoreClient" in str(error) or "Another instance of Derby" in str(error):
            raise _busy(folder) from None
        raise
    tell_runs(folder, [])  # those of a process that was killed


def tell_runs(folder: str | Path, run_ids: Iterable[str]) -> None:
    """Write down which runs this process has, for another one that finds the warehouse in use."""
    with suppress(OSError):  # nothing depends on it
        Path(folder, _RUNS).write_text("\n".join([f"{os.getpid()}", *sorted(set(run_ids))]), encoding="utf-8")


def check_free(folder: Path) -> None:
    """Wait for the lock that Derby keeps on an open database.

    Raises:
        WarehouseBusyError: if another process holds it, and does not let go.
    """
    lock = folder / "metastore" / "dbex.lck"
    until = time.monotonic() + _LOCK_WAIT_S
    if _is_locked(lock):
        logger.info(
            f"the warehouse {str(folder)!r} is in use by another process: waiting for it, {_LOCK_WAIT_S:.0f} s at most"
        )
    while _is_locked(lock):
        if time.monotonic() > until:
            raise _busy(folder)
        time.sleep(0.2)


def _is_locked(lock: Path) -> bool:
    """Whether another process holds a lock file."""
    if not lock.exists():
        return False
    with lock.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _busy(folder: Path) -> WarehouseBusyError:
    """The one sentence for a warehouse that is in use."""
    run_ids: list[str] = []
    with suppress(OSError, ValueError):
        pid, *told = (folder / _RUNS).read_text(encoding="utf-8").split("\n")
        os.kill(int(pid), 0)  # else it was killed, and another process has the warehouse now
        run_ids = told
    runs = f" (run {', '.join(run_ids)})" if run_ids else ""
    return WarehouseBusyError(
        f"the warehouse {str(folder)!r} is in use by another process{runs}, and an embedded warehouse takes one at a "
        "time: wait until that process has ended, or end it"
    )
