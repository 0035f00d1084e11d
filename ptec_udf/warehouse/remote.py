"""What a session of Spark Connect does in another way than one that shares its process with Spark.

A client of Connect has neither a Spark context nor a JVM. Broadcasts, accumulators and Delta's log are here, files of a
source in ``warehouse/files.py``.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ptec_udf.text.columns import escape_glob, quote

_PORT = 15002
"""That servers have by default."""

_TIMEOUT_S = 10.0

_LOG_FILE = r"^(\d{20})\.(?:json|checkpoint.*)$"
"""A commit or a checkpoint of Delta's, by its version; what joins several commits is none of them."""

_NOT_THERE = ("FileNotFoundException", "IllegalStateException")
"""How Delta says that its log does not hold a version."""

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Carried(Generic[ValueT]):
    """Stands for a broadcast: the value travels with the function that uses it."""

    value: ValueT


@dataclass
class Counted:
    """Stands for an accumulator, where tasks cannot add to one."""

    value: int = 0

    def add(self, more: int) -> None:
        """Count more."""
        self.value += more


def is_remote(spark: SparkSession) -> bool:
    """Tell whether a session is one of Spark Connect."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def remote_session(address: str, app_name: str) -> SparkSession:
    """Open a session of Spark Connect.

    Args:
        address: for instance ``sc://spark.example.com:15002``.
        app_name: name that the server shows.

    Raises:
        OSError: if nothing answers there; Spark's own client would try for many minutes.
        ImportError: if a package of the extra ``connect`` is missing.
    """
    place = urlsplit(address)
    socket.create_connection((str(place.hostname), place.port or _PORT), _TIMEOUT_S).close()
    import delta.connect.exceptions  # noqa: F401 (without it conflicts have no type of their own, and are not retried)

    return SparkSession.builder.remote(address).appName(app_name).getOrCreate()


def carried(spark: SparkSession, value: ValueT) -> Any:
    """Return what has ``value`` where tasks run: a broadcast, or the value itself."""
    return Carried(value) if is_remote(spark) else spark.sparkContext.broadcast(value)


def counter(spark: SparkSession) -> Any:
    """Return what counts from 0: an accumulator, or what only this process can add to."""
    return Counted() if is_remote(spark) else spark.sparkContext.accumulator(0)


def cores(spark: SparkSession) -> int:
    """Return how many cores tasks run on."""
    if not is_remote(spark):
        return spark.sparkContext.defaultParallelism
    parts = spark.range(0, 1_000_000).select(F.spark_partition_id().alias("part"))
    return parts.distinct().count()


def describe_jobs(spark: SparkSession, text: str) -> None:
    """Say what this thread's jobs from now on are of, for whoever looks at Spark."""
    if is_remote(spark):
        spark.clearTags()
        spark.addTag(re.sub(r"[^\w-]+", "_", text))
    else:
        spark.sparkContext.setJobDescription(text)


@contextmanager
def tasks_told(spark: SparkSession, tell: Callable[[int, int], None]) -> Iterator[None]:
    """Tell now and then what a server is at, of what this thread asks of it while the block runs.

    Args:
        spark: the session; of one that shares its process with Spark nothing is told, it has accumulators.
        tell: is given how many tasks of the newest stage have ended, and of how many.
    """
    if not is_remote(spark):
        yield
        return
    thread = threading.get_ident()

    def handle(stages: Iterable[Any] | None, **_: Any) -> None:
        known = list(stages or ())
        if threading.get_ident() == thread and known:  # Spark calls it in the thread that waits
            newest = max(known, key=lambda stage: stage.stage_id)
            tell(newest.num_completed_tasks, newest.num_tasks)

    spark.registerProgressHandler(handle)  # type: ignore[arg-type]
    try:
        yield
    finally:
        spark.removeProgressHandler(handle)  # type: ignore[arg-type]


def go_first(spark: SparkSession, pool: str) -> None:
    """Let this thread's jobs have the next slot, with ``spark.scheduler.mode`` FAIR; a server has rules of its own."""
    if not is_remote(spark):
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", pool)


def off_its_tables(frame: DataFrame) -> DataFrame:
    """Return the rows of a frame as one that Spark knows to read no table.

    Spark drops all that it keeps of a table's readers when the table is written. What is lost with an executor is
    computed again, but for Connect, where the job that needs it fails. All stages but the last run at this call.
    """
    if is_remote(frame.sparkSession):
        return frame.localCheckpoint(eager=True, storageLevel=StorageLevel.MEMORY_AND_DISK)
    rows = frame._jdf.queryExecution().toRdd()
    made = frame.sparkSession._jsparkSession.internalCreateDataFrame(rows, frame._jdf.schema(), False)
    return DataFrame(made, frame.sparkSession)


def is_delta(spark: SparkSession, path: str) -> bool:
    """Tell whether a folder is a Delta table."""
    if not is_remote(spark):
        return DeltaTable.isDeltaTable(spark, path)
    try:
        spark.sql(f"DESCRIBE DETAIL delta.{quote(path)}").collect()
    except AnalysisException:
        return False
    return True


class DeltaLog:
    """The log of a Delta table: its newest version, and its id now and earlier."""

    def __init__(self, spark: SparkSession, table: str | None = None, path: str | None = None) -> None:
        """Open a table by its quoted name, or else by its folder.

        Raises:
            AnalysisException: if it is no Delta table.
        """
        self._spark, self._name, self._log = spark, table or f"delta.{quote(str(path))}", None
        if is_remote(spark):
            if self._detail("id") is None:
                raise AnalysisException(f"{self._name} is no Delta table")
        else:
            delta = DeltaTable.forName(spark, table) if table else DeltaTable.forPath(spark, str(path))
            self._log = delta._jdt.deltaLog()

    def version(self) -> int:
        """Return the newest version, after a look at the table's folder."""
        if self._log is not None:
            return int(self._snapshot().version())
        return int(self._spark.sql(f"DESCRIBE HISTORY {self._name} LIMIT 1").select("version").first()[0])  # type: ignore[index]

    def newest(self) -> tuple[int, str]:
        """Return the newest version, after a look at the table's folder, and the id that the table has in it."""
        if self._log is not None:
            snapshot = self._snapshot()
            return int(snapshot.version()), str(snapshot.metadata().id())
        before = None
        while (table_id := self._detail("id")) != before:  # replaced meanwhile
            before, version = table_id, self.version()
        return version, str(table_id)

    def id_at(self, version: int) -> str | None:
        """Return the id that the table had at a version; None where its log shows that no more."""
        if self._log is None:
            return self._id_by_query(version)
        none = self._spark._jvm.scala.Option.empty()  # type: ignore[union-attr]
        try:
            return str(self._log.getSnapshotAt(version, none, none, False).metadata().id())
        except Py4JJavaError as error:
            if error.java_exception.getClass().getSimpleName().endswith(_NOT_THERE):
                return None
            raise  # it may be there, and cannot be read just now

    def _id_by_query(self, version: int) -> str | None:
        """As ``id_at``, from the newest file of the log up to the version that holds the table's metadata."""
        place = str(self._detail("location"))
        found: list[tuple[str, str]] = []
        for form, files in (("json", "*.json"), ("parquet", "*.checkpoint*.parquet")):
            try:
                log = self._spark.read.schema("metaData STRUCT<id: STRING>").format(form)
                rows = log.load(f"{escape_glob(place)}/_delta_log/{files}").select(
                    "metaData.id", F.regexp_extract("_metadata.file_name", _LOG_FILE, 1).alias("version")
                )
                is_known = F.col("id").isNotNull() & F.col("version").between(f"{0:020d}", f"{version:020d}")
                row = rows.where(is_known).orderBy(F.desc("version")).first()
            except AnalysisException as error:
                if error.getCondition() != "PATH_NOT_FOUND":
                    raise
            else:
                found += [(row["version"], row["id"])] if row else []
        return max(found)[1] if found else None

    def _detail(self, column: str) -> str | None:
        """Return a fact about the table as it is now."""
        return self._spark.sql(f"DESCRIBE DETAIL {self._name}").select(column).first()[0]  # type: ignore[index]

    def _snapshot(self) -> Any:
        assert self._log is not None
        assert self._spark._jvm is not None
        none = self._spark._jvm.scala.Option.empty()
        return self._log.update(False, none, none)
