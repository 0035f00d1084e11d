"""A source table of companies, pinned: later writes to it cannot change what a run reads."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from ptec_udf.config import SourceConfig
from ptec_udf.errors import SourceError, collect_errors, hide_partitions
from ptec_udf.text.columns import escape_glob, quote
from ptec_udf.warehouse.files import are_there, list_files, qualified
from ptec_udf.warehouse.remote import DeltaLog, is_delta

if TYPE_CHECKING:
    from ptec_udf.warehouse.tables import Warehouse

# A part of a table name: in backticks, where a backtick is doubled, or anything without dot and backtick.
_PART = r"`(?:[^`]|``)+`|[^.`]+"
_MOST_COLUMNS_NAMED = 20

_KEYS = (T.StringType, T.CharType, T.VarcharType, T.NumericType, T.BooleanType, T.DateType, T.TimestampNTZType)
"""Types of which each value has a text of its own, whatever the session's time zone is."""


@dataclass(frozen=True)
class PinnedSource:
    """A source at one version.

    Attributes:
        name: table name or path as configured.
        kind: what it is.
        source_id: Delta's table id, where the table was replaced in place the one that runs know it by; for a view or
            Parquet a hash of the definition or location.
        version: Delta version; 0 for a view or Parquet.
        fingerprint: Delta's own id of the table at the version; of a Parquet folder a hash of its files' names, sizes
            and times; None for a view.
        table: quoted table name; None for a path.
        path: folder; None for a name.
    """

    name: str
    kind: Literal["delta", "parquet", "view"]
    source_id: str
    version: int
    fingerprint: str | None = None
    table: str | None = None
    path: str | None = None

    def read(self, spark: SparkSession) -> DataFrame:
        """Read a Delta table at the pinned version, a view or a Parquet folder as it is now."""
        if self.kind == "delta":
            return _delta_at(spark, self.table, self.path, self.version)
        if self.kind == "parquet":
            return spark.read.parquet(escape_glob(str(self.path)))
        return spark.table(str(self.table))

    def id_at(self, spark: SparkSession, version: int) -> str | None:
        """Return the id that a Delta table had at a version; None where its log shows that no more."""
        return DeltaLog(spark, self.table, self.path).id_at(version)


def pin(spark: SparkSession, config: SourceConfig, warehouse: Warehouse | None = None) -> PinnedSource:
    """Find a source and fix its version, without a scan.

    Args:
        spark: the session.
        config: table or path, version and key column.
        warehouse: its runs give Parquet folders and views their version; None: version 0.

    Raises:
        SourceError: no such table or path, one that Spark cannot open, neither Delta nor Parquet nor view,
            no such version, no key column.
    """
    try:
        return _pin(spark, config, warehouse)
    except SourceError as error:
        if config.version is None:
            raise
        faults = list(error.errors)
        with collect_errors(faults):  # what is wrong beside the version
            _pin(spark, config.model_copy(update={"version": None}), warehouse)
        raise SourceError(list(dict.fromkeys(faults))) from None


def _pin(spark: SparkSession, config: SourceConfig, warehouse: Warehouse | None) -> PinnedSource:
    """As ``pin``, but for faults beside a wrong version."""
    try:
        source = _by_name(spark, config, warehouse) if config.table is not None else _by_path(spark, config, warehouse)
        schema = source.read(spark).schema
    except (PySparkException, Py4JError, OSError) as error:
        name = config.table if config.table is not None else config.path
        raise SourceError(f"source {name!r} cannot be opened: {said(error)}") from None
    faults = []
    if config.version is not None and source.kind != "delta":
        faults.append(
            f"source.version must be null for {source.name!r}, was {config.version}: only Delta tables keep versions"
        )
    columns = schema.names
    if config.key not in columns:
        more = ", ..." if len(columns) > _MOST_COLUMNS_NAMED else ""
        faults.append(
            f"source.key must be a column of {source.name!r}, was {config.key!r}; "
            f"its columns are: {', '.join(map(repr, columns[:_MOST_COLUMNS_NAMED]))}{more}"
        )
    elif not isinstance(kind := schema[config.key].dataType, _KEYS):
        faults.append(
            f"source.key must be a column of text, numbers, booleans or dates, {config.key!r} is "
            f"{kind.simpleString()}: as text, two of its values may be one; make a key of it in a view, by hex() or "
            "unix_micros(), say"
        )
    if faults:
        raise SourceError(faults)
    return source


def said(error: PySparkException | Py4JError | OSError) -> str:
    """Return the first line of what Spark or the machine says where no row was read, so that it quotes none.

    A name of a folder may hold the value of a partition, which may be a text's: it is left out.
    """
    java = getattr(error, "java_exception", None)
    message = java.toString() if java is not None else str(error)
    return hide_partitions(str(message).strip().partition("\n")[0])


def quoted_name(name: str) -> str:
    """Quote each part of a table name; a part in backticks is taken as it is.

    Raises:
        SourceError: if it is not one to three parts with dots between them.
    """
    parts = re.findall(_PART, name)
    if not 1 <= len(parts) <= 3 or not re.fullmatch(rf"(?:{_PART})(?:\.(?:{_PART}))*", name):
        raise SourceError(
            f"source.table must be one to three names with dots between them, was {name!r}; "
            "put a name that holds a dot or a backtick into backticks, or set source.path"
        )
    return ".".join(part if part.startswith("`") else quote(part) for part in parts)


def _by_name(spark: SparkSession, config: SourceConfig, warehouse: Warehouse | None) -> PinnedSource:
    """Pin a table or view."""
    name = str(config.table)
    table = quoted_name(name)
    if not spark.catalog.tableExists(table):
        raise SourceError(f"source.table must exist, and the session's catalog has no table or view {name!r}")
    kind = spark.catalog.getTable(table).tableType
    if kind in ("VIEW", "TEMPORARY"):
        source_id = _hash(_definition(spark, table))
        return PinnedSource(name, "view", source_id, 0, table=table)
    try:
        log = DeltaLog(spark, table)
    except AnalysisException:
        raise SourceError(
            f"source.table must be a Delta table or a view, and {name!r} is neither; set source.path to read Parquet"
        ) from None
    version, source_id = _delta_version(spark, log, config, name, table, None)
    table_id = source_id if config.version is None else log.id_at(version)
    return PinnedSource(name, "delta", source_id, version, table_id, table=table)


def _by_path(spark: SparkSession, config: SourceConfig, warehouse: Warehouse | None) -> PinnedSource:
    """Pin a Delta or Parquet folder."""
    name = str(config.path)
    found = list_files(spark, name)
    if found is None:
        raise SourceError(f"source.path must exist, was {name!r}")
    if is_delta(spark, name):
        log = DeltaLog(spark, path=name)
        version, source_id = _delta_version(spark, log, config, name, None, name)
        table_id = source_id if config.version is None else log.id_at(version)
        return PinnedSource(name, "delta", source_id, version, table_id, path=name)
    if not any(file.endswith((".parquet", ".parq")) for file, _, _ in found):
        raise SourceError(f"source.path must hold a Delta or Parquet table, and {name!r} holds neither")
    source_id, fingerprint = _hash(qualified(spark, name)), _hash(repr(sorted(found)))
    return PinnedSource(name, "parquet", source_id, 0, fingerprint, path=name)


def _delta_version(
    spark: SparkSession, log: DeltaLog, config: SourceConfig, name: str, table: str | None, path: str | None
) -> tuple[int, str]:
    """The version to read, and the table's id; checks that an old version can still be read."""
    newest, source_id = log.newest()
    version = newest if config.version is None else config.version
    if version != newest and not _is_readable(spark, table, path, version, newest):
        first = _first_readable(spark, table, path, newest)
        raise SourceError(f"source.version of {name!r} must be {first} to {newest} or null, was {version}")
    return version, source_id


def _is_readable(spark: SparkSession, table: str | None, path: str | None, version: int, newest: int) -> bool:
    """Whether the log and all files of an old version are there; VACUUM removes files and leaves the log."""
    try:
        files = set(_delta_at(spark, table, path, version).inputFiles())
    except AnalysisException:
        return False
    return are_there(spark, files - set(_delta_at(spark, table, path, newest).inputFiles()))


def _first_readable(spark: SparkSession, table: str | None, path: str | None, newest: int) -> int:
    """Oldest readable version: each later one is readable too, so halving finds it."""
    low, high = 0, newest
    while low < high:
        middle = (low + high) // 2
        if _is_readable(spark, table, path, middle, newest):
            high = middle
        else:
            low = middle + 1
    return high


def _delta_at(spark: SparkSession, table: str | None, path: str | None, version: int) -> DataFrame:
    """A Delta table at a version."""
    reader = spark.read.format("delta").option("versionAsOf", version)
    return reader.table(table) if table is not None else reader.load(path)


def _definition(spark: SparkSession, table: str) -> str:
    """SQL text of a view and where its names are looked up; its name where Spark keeps no text."""
    rows = spark.sql(f"DESCRIBE TABLE EXTENDED {table}").collect()
    told = {str(row.col_name): str(row.data_type) for row in rows}
    text = told.get("View Text")
    return table if text is None else f"{told.get('View Catalog and Namespace')}|{text}"


def _hash(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
