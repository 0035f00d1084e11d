"""Differences between a classic Spark session and Spark Connect, whose client has neither a context nor a JVM."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from delta.tables import DeltaTable
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ptec_udf.errors import PtecError

_DEFAULT_PORT = 15002
_TIMEOUT_S = 10.0


def is_remote(spark: SparkSession) -> bool:
    """Return whether a session is a Spark Connect session."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def site_session() -> SparkSession | None:
    """Return the session that this process has, classic or Spark Connect; starts none."""
    connect_session = sys.modules.get("pyspark.sql.connect.session")
    if connect_session is not None:
        found = connect_session.SparkSession
        if (session := found.getActiveSession() or found._get_default_session()) is not None:
            return session
    return SparkSession.builder.getOrCreate() if SparkContext._active_spark_context is not None else None


def connect(address: str, app_name: str) -> SparkSession:
    """Open a Spark Connect session at an address such as ``sc://example.com:15002``; raise PtecError if it fails."""
    place = urlsplit(address)
    try:
        # Spark's own client tries for many minutes.
        socket.create_connection((str(place.hostname), place.port or _DEFAULT_PORT), _TIMEOUT_S).close()
        import delta.connect.exceptions  # noqa: F401 (conflicts get their types, so that they are retried)

        return SparkSession.builder.remote(address).appName(app_name).getOrCreate()
    except ImportError as error:
        raise PtecError(f"warehouse.remote needs {error.name}: pip install 'ptec-batch-scoring[connect]'") from None
    except (OSError, PySparkException) as error:
        server = f"{place.hostname}:{place.port or _DEFAULT_PORT}"  # what follows the port may be a token
        raise PtecError(f"the Spark Connect server {server} does not answer ({type(error).__name__})") from None


def broadcast_or_inline(spark: SparkSession, value: Any) -> Any:
    """Return an object whose ``value`` tasks can read; Connect has no broadcasts."""
    return SimpleNamespace(value=value) if is_remote(spark) else spark.sparkContext.broadcast(value)


def table_version(spark: SparkSession, table: str) -> int:
    """Return the newest version of a Delta table by its quoted name; reads the log only."""
    if not is_remote(spark):  # 0.1 s; DESCRIBE HISTORY takes 1 s, and every read of a run needs a version
        log, none = DeltaTable.forName(spark, table)._jdt.deltaLog(), spark._jvm.scala.Option.empty()  # type: ignore[union-attr]
        return int(log.update(False, none, none).version())
    return int(spark.sql(f"DESCRIBE HISTORY {table} LIMIT 1").collect()[0]["version"])


def count_cores(spark: SparkSession) -> int:
    """Return the cores that the session has now; a growing cluster has more later."""
    if not is_remote(spark):
        return spark.sparkContext.defaultParallelism
    return spark.range(0, 1_000_000).select(F.spark_partition_id().alias("part")).distinct().count()
