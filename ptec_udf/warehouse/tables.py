"""The only reader and writer of the Delta tables of this package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ptec_udf.errors import ConfigError
from ptec_udf.text.quoting import literal, quote
from ptec_udf.warehouse.embedded import FOLDER_SETTING, register_tables
from ptec_udf.warehouse.remote import table_version
from ptec_udf.warehouse.retries import is_conflict, with_retries
from ptec_udf.warehouse.schemas import PARTITIONED_BY, SCHEMAS, schema_errors

Rows = DataFrame | Sequence[dict[str, Any]]
"""Rows of a table, or dictionaries by column; a missing column becomes null."""

_NEW = "new_rows"  # alias of the rows that a MERGE writes; no table has this name

_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
# Readers other than Spark refuse deletion vectors and v2 checkpoints, and read nulls from mapped columns.
_PROPERTIES = {
    "delta.enableDeletionVectors": "false",
    "delta.columnMapping.mode": "none",
    "delta.checkpointPolicy": "classic",
}
# Delta's conditions when two processes create the same table.
_CREATED_MEANWHILE = ("DELTA_TABLE_ALREADY_EXISTS", "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION")
_REMOVED = ("source_id", "source_version", "run_id", "scored_at", "removed_in")
"""Columns that change when a company leaves the source; its last scores are kept."""


class Warehouse:
    """The tables of one database, ``schema`` or ``catalog.schema``."""

    def __init__(self, spark: SparkSession, database: str = "ptec") -> None:
        self.spark = spark
        self.database = database

    def ensure(self) -> None:
        """Create missing tables; raise ConfigError naming all missing or wrong columns of existing ones."""
        with_retries(self._create_missing, retry_if=_is_creation_race)
        schemas = {table: self.spark.table(self.name(table)).schema for table in SCHEMAS}
        if errors := [error for table, schema in schemas.items() for error in schema_errors(table, schema)]:
            raise ConfigError([f"database {self.database}: {error}" for error in errors])

    def name(self, table: str) -> str:
        """Return the quoted name of a table or view, database included."""
        return quote(*self.database.split("."), table)

    def version(self, table: str) -> int:
        """Return the newest Delta version of a table; reads the log only."""
        return table_version(self.spark, self.name(table))

    def versions_by_run(self, table: str, after: int = -1) -> dict[str, int]:
        """Return the version that each run made by a commit that names it, of the versions later than ``after``."""
        history = self.spark.sql(f"DESCRIBE HISTORY {self.name(table)}").where(F.col("version") > after)
        named = history.where(F.col("userMetadata").isNotNull())
        return {row["userMetadata"]: row["version"] for row in named.select("userMetadata", "version").collect()}

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """Read a table at a version; None pins the newest version at this call."""
        pinned = self.version(table) if version is None else version
        return self.spark.read.option("versionAsOf", pinned).table(self.name(table))

    def append(self, table: str, rows: Rows) -> None:
        """Append rows."""
        shaped = self._shaped(table, rows)
        with_retries(lambda: shaped.writeTo(self.name(table)).append())

    def replace(self, table: str, rows: Rows, condition: Column) -> None:
        """Replace the rows that fulfil ``condition``; all new rows must fulfil it too."""
        shaped = self._shaped(table, rows)
        with_retries(lambda: shaped.writeTo(self.name(table)).overwrite(condition))

    def replace_run(self, table: str, rows: Rows, run_id: str) -> None:
        """Replace the rows of one run."""
        self.replace(table, rows, F.col("run_id") == F.lit(run_id))

    def delete(self, table: str, condition: Column) -> None:
        """Remove the rows that fulfil ``condition``."""
        self.replace(table, [], condition)

    def merge_scores(self, df: DataFrame, *, model_id: str, run_id: str, accept_new_source: bool = False) -> None:
        """Write scores in one commit that carries ``run_id`` as user metadata; at most one row a company, no UDF.

        A row is replaced only by a row of an equal or newer version of the same source; with ``accept_new_source`` also
        by a row of another source. A row with ``removed_in`` marks a company that left the source.
        """
        old = partial(self.old, "scores")
        is_same_source = _new("source_id") == old("source_id")
        # A source that keeps no versions has none to compare.
        is_newer = F.coalesce(_new("source_version") >= old("source_version"), F.lit(True))
        # A company that left an earlier source may return in another one.
        is_free = F.lit(accept_new_source) | old("removed_in").isNotNull()
        may_replace = (is_same_source & is_newer) | (~is_same_source & is_free)
        is_removal = _new("removed_in").isNotNull()
        # The literal confines Delta's conflict check to the model's partition.
        is_same_company = (old("model_id") == F.lit(model_id)) & (old("key") == _new("key"))

        rows = self._shaped("scores", df.withColumn("model_id", F.lit(model_id)))
        values = {name: _new(name) for name in SCHEMAS["scores"].names}
        merge = rows.alias(_NEW).mergeInto(self.name("scores"), is_same_company)
        merge = merge.whenMatched(may_replace & is_removal).update({name: _new(name) for name in _REMOVED})
        merge = merge.whenMatched(may_replace).update(values).whenNotMatched(~is_removal).insert(values)
        self.spark.conf.set(_USER_METADATA, run_id)
        try:
            merge.merge()
        finally:
            self.spark.conf.unset(_USER_METADATA)

    def put_row(self, table: str, row: dict[str, Any], is_there: Column) -> None:
        """Insert a row unless one fulfils ``is_there``, whose columns are named by ``old``; atomic among writers."""
        values = {name: _new(name) for name in SCHEMAS[table].names}

        def put() -> None:
            merge = self._shaped(table, [row]).alias(_NEW).mergeInto(self.name(table), is_there)
            merge.whenNotMatched().insert(values).merge()

        with_retries(put)

    def old(self, table: str, column: str) -> Column:
        """Name a column of a table in a MERGE."""
        return F.col(f"{self.name(table)}.{quote(column)}")

    def _create_missing(self) -> None:
        database = quote(*self.database.split("."))
        if folder := self.spark.conf.get(FOLDER_SETTING, None):
            register_tables(self.spark, Path(folder), self.database)  # also of other processes
        elif not self.spark.catalog.databaseExists(database):  # a question needs fewer rights
            self.spark.sql(f"CREATE DATABASE IF NOT EXISTS {database}")
        for table in SCHEMAS:
            if not self.spark.catalog.tableExists(self.name(table)):
                self._create(table)

    def _create(self, table: str) -> None:
        # SQL: a Connect server has no handler for the commands of Delta's Python builder.
        columns = [
            f"{quote(field.name)} {field.dataType.simpleString()} COMMENT {literal(field.metadata['comment'])}"
            for field in SCHEMAS[table].fields
        ]
        partitions = ", ".join(map(quote, PARTITIONED_BY.get(table, ())))
        properties = ", ".join(f"{literal(name)} = {literal(value)}" for name, value in _PROPERTIES.items())
        self.spark.sql(
            f"CREATE TABLE IF NOT EXISTS {self.name(table)} ({', '.join(columns)}) USING delta "
            f"{f'PARTITIONED BY ({partitions}) ' if partitions else ''}TBLPROPERTIES ({properties})"
        )

    def _shaped(self, table: str, rows: Rows) -> DataFrame:
        """Return rows with exactly the columns of a table, in its types."""
        schema = SCHEMAS[table]
        if not isinstance(rows, DataFrame):
            return self.spark.createDataFrame([tuple(row.get(name) for name in schema.names) for row in rows], schema)
        columns = []
        for field in schema.fields:
            value = F.col(quote(field.name)) if field.name in rows.columns else F.lit(None)
            columns.append(value.cast(field.dataType).alias(field.name))
        return rows.select(*columns)


def _is_creation_race(error: Exception) -> bool:
    created = isinstance(error, AnalysisException) and any(name in str(error) for name in _CREATED_MEANWHILE)
    return created or is_conflict(error)


def _new(name: str) -> Column:
    return F.col(f"{_NEW}.{quote(name)}")
