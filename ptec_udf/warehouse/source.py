"""A source of companies: a Delta table pinned to a version, or another table, view or Parquet folder as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from ptec_udf.config import SourceConfig
from ptec_udf.errors import SourceError, hide_partitions
from ptec_udf.text.columns import escape_glob
from ptec_udf.text.quoting import quote
from ptec_udf.warehouse.remote import table_version

# A part of a table name: in backticks, where a backtick is doubled, or anything without dot and backtick.
_PART = r"`(?:[^`]|``)+`|[^.`]+"
_MAX_COLUMNS_NAMED = 20

_KEYS = (T.StringType, T.CharType, T.VarcharType, T.NumericType, T.BooleanType, T.DateType, T.TimestampNTZType)
"""Types whose values have one text each, whatever the time zone of the session."""


@dataclass(frozen=True)
class PinnedSource:
    """A source; later writes to a Delta table, which alone has a version, do not change what it reads.

    ``source_id`` is Delta's table id, equal by name and by path; otherwise ``relation``, the quoted name, or the path.
    """

    name: str
    source_id: str
    version: int | None
    relation: str

    def read(self, spark: SparkSession) -> DataFrame:
        """Return the rows."""
        if self.version is None:
            return spark.table(self.relation)
        return spark.read.option("versionAsOf", self.version).table(self.relation)


def pin(spark: SparkSession, config: SourceConfig) -> PinnedSource:
    """Find a source and fix its version, without a scan; raise SourceError with all errors of source and key."""
    name, errors = str(config.table or config.path), []
    relation = quoted_name(name) if config.table else f"delta.{quote(name)}"
    try:
        source = _newest(spark, name, relation, is_path=config.table is None)
        schema = source.read(spark).schema
        if config.version is not None and source.version is None:
            errors.append(f"source.version must be null, was {config.version}: {name!r} is no Delta table")
        elif config.version is not None:
            source = replace(source, version=config.version)
            try:
                source.read(spark)
            except AnalysisException as error:
                errors.append(f"source.version must be an existing version of {name!r} or null: {safe_message(error)}")
    except (PySparkException, Py4JError) as error:
        raise SourceError(f"source {name!r} cannot be opened: {safe_message(error)}") from None
    if errors := errors + _key_errors(name, schema, config.key):
        raise SourceError(errors)
    return source


def quoted_name(name: str) -> str:
    """Quote each part of a table name, one to three; a part in backticks stays as it is."""
    parts = re.findall(_PART, name)
    if not 1 <= len(parts) <= 3 or not re.fullmatch(rf"(?:{_PART})(?:\.(?:{_PART}))*", name):
        raise SourceError(
            f"source.table must be one to three names with dots between them, was {name!r}; "
            "put a name with a dot or a backtick into backticks, or set source.path"
        )
    return ".".join(part if part.startswith("`") else quote(part) for part in parts)


def safe_message(error: PySparkException | Py4JError) -> str:
    """Return the first line of an error that was raised before a row was read, without the values of partitions."""
    java = getattr(error, "java_exception", None)
    message = java.toString() if java is not None else str(error)
    return hide_partitions(str(message).strip().partition("\n")[0])


def _newest(spark: SparkSession, name: str, relation: str, *, is_path: bool) -> PinnedSource:
    """Pin the newest version of a Delta table; take anything else as it is."""
    try:
        detail = spark.sql(f"DESCRIBE DETAIL {relation}").collect()[0]
    except AnalysisException:  # a view, or no Delta folder
        detail = None
    if detail is not None and detail["format"] == "delta":
        return PinnedSource(name, detail["id"], table_version(spark, relation), relation)
    if is_path:
        return PinnedSource(name, name, None, f"parquet.{quote(escape_glob(name))}")
    return PinnedSource(name, relation, None, relation)


def _key_errors(name: str, schema: T.StructType, key: str) -> list[str]:
    if key not in schema.names:
        more = ", ..." if len(schema) > _MAX_COLUMNS_NAMED else ""
        named = ", ".join(map(repr, schema.names[:_MAX_COLUMNS_NAMED])) + more
        return [f"source.key must be a column of {name!r}, was {key!r}; the columns are: {named}"]
    if not isinstance(kind := schema[key].dataType, _KEYS):
        return [
            f"source.key must be a column of text, numbers, booleans or dates, {key!r} is {kind.simpleString()}, "
            "where two values may have one text; make a key of it in a view, for instance by hex() or unix_micros()"
        ]
    return []
