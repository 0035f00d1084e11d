"""The only reader and writer of the Delta tables of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ptec_udf.errors import ConfigError
from ptec_udf.text.columns import quote
from ptec_udf.warehouse.remote import table_version
from ptec_udf.warehouse.retries import is_conflict, with_retries
from ptec_udf.warehouse.schemas import PARTITIONED_BY, SCHEMAS, schema_errors
from ptec_udf.warehouse.session import make_database

_NEW = "new_rows"
"""Alias of the rows that a MERGE writes; no table has this name."""

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
    """The tables of one database.

    Attributes:
        spark: the session.
        database: name of the database, ``schema`` or ``catalog.schema``.
    """

    def __init__(self, spark: SparkSession, database: str = "ptec") -> None:
        self.spark = spark
        self.database = database

    def ensure(self) -> None:
        """Create missing tables and check the schemas of existing ones.

        Raises:
            ConfigError: if existing tables lack columns or have other types; names them all.
        """
        with_retries(self._create_missing, retry_if=_is_creation_race)
        errors = [
            error for table in SCHEMAS for error in schema_errors(table, self.spark.table(self.name(table)).schema)
        ]
        if errors:
            raise ConfigError([f"database {self.database}: {error}" for error in errors])

    def name(self, table: str) -> str:
        """Return the quoted name of a table or view, database included."""
        return quote(*self.database.split("."), table)

    def version(self, table: str) -> int:
        """Return the newest Delta version of a table; reads the log only."""
        return table_version(self.spark, self.name(table))

    def version_of_run(self, table: str, run_id: str, newest: int | None = None) -> int | None:
        """Return the version that a run committed, by the commit's user metadata; None without one.

        Args:
            table: the table.
            run_id: the run.
            newest: number of commits to look at; None: all.
        """
        limit = "" if newest is None else f" LIMIT {newest}"
        history = self.spark.sql(f"DESCRIBE HISTORY {self.name(table)}{limit}")
        row = history.where(F.col("userMetadata") == F.lit(run_id)).agg(F.max("version")).first()
        return None if row is None else row[0]

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """Read a table at a version; None pins the newest version at this call."""
        pinned = self.version(table) if version is None else version
        return self.spark.read.option("versionAsOf", pinned).table(self.name(table))

    def append(self, table: str, df: DataFrame) -> None:
        """Append rows; columns that ``df`` lacks become null."""
        rows = self._shaped(table, df)
        with_retries(lambda: rows.writeTo(self.name(table)).append())

    def append_rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Append rows given as dictionaries by column; a missing column becomes null."""
        self.append(table, self._frame(table, rows))

    def replace_run(self, table: str, df: DataFrame, run_id: str) -> None:
        """Replace the rows of one run."""
        self._replace(table, df, F.col("run_id") == F.lit(run_id))

    def replace_run_rows(self, table: str, rows: list[dict[str, Any]], run_id: str) -> None:
        """Replace the rows of one run by rows given as dictionaries."""
        self.replace_run(table, self._frame(table, rows), run_id)

    def replace_model(self, table: str, rows: list[dict[str, Any]], model_id: str) -> None:
        """Replace the rows of one model by rows given as dictionaries."""
        self._replace(table, self._frame(table, rows), F.col("model_id") == F.lit(model_id))

    def merge_scores(self, df: DataFrame, *, model_id: str, run_id: str, accept_new_source: bool = False) -> None:
        """Write scores in one commit that carries ``run_id`` as user metadata.

        A row is replaced only by a row of an equal or newer version of the same source. A row with ``removed_in``
        marks a company that left the source. Delta reads ``df`` twice: it must not contain a UDF.

        Args:
            df: columns of ``scores``, at most one row a company.
            model_id: the partition that is written.
            run_id: the run.
            accept_new_source: replace rows of another source too, whatever their version.
        """
        rows = self._shaped("scores", df.withColumn("model_id", F.lit(model_id)))
        old = partial(self.old, "scores")
        values = {name: _new(name) for name in SCHEMAS["scores"].names}
        may_replace = _may_replace(old, accept_new_source)
        is_removal = _new("removed_in").isNotNull()
        # The literal confines Delta's conflict check to the model's partition.
        is_same_row = (old("model_id") == F.lit(model_id)) & (old("key") == _new("key"))
        merge = rows.alias(_NEW).mergeInto(self.name("scores"), is_same_row)
        merge = merge.whenMatched(may_replace & is_removal).update({name: _new(name) for name in _REMOVED})
        merge = merge.whenMatched(may_replace).update(values).whenNotMatched(~is_removal).insert(values)
        with self._user_metadata(run_id):
            merge.merge()

    def delete(self, table: str, condition: Column) -> None:
        """Remove the rows that fulfil ``condition``."""
        self._replace(table, self._frame(table, []), condition)

    def put_row(self, table: str, row: dict[str, Any], is_there: Column) -> None:
        """Insert a row unless one fulfils ``is_there``, whose columns are named by ``old``; atomic among writers."""
        values = {name: _new(name) for name in SCHEMAS[table].names}

        def put() -> None:
            merge = self._frame(table, [row]).alias(_NEW).mergeInto(self.name(table), is_there)
            merge.whenNotMatched().insert(values).merge()

        with_retries(put)

    def old(self, table: str, column: str) -> Column:
        """Name a column of a table in a MERGE."""
        return F.col(f"{self.name(table)}.{quote(column)}")

    def _create_missing(self) -> None:
        make_database(self.spark, self.database)  # registers what other processes have created
        for table in SCHEMAS:
            if not self.spark.catalog.tableExists(self.name(table)):
                self._create(table)

    def _create(self, table: str) -> None:
        # SQL: a Connect server has no handler for the commands of Delta's Python builder.
        columns = [
            f"{quote(field.name)} {field.dataType.simpleString()} COMMENT {_literal(field.metadata['comment'])}"
            for field in SCHEMAS[table].fields
        ]
        partitions = ", ".join(map(quote, PARTITIONED_BY.get(table, ())))
        properties = ", ".join(f"{_literal(name)} = {_literal(value)}" for name, value in _PROPERTIES.items())
        self.spark.sql(
            f"CREATE TABLE IF NOT EXISTS {self.name(table)} ({', '.join(columns)}) USING delta "
            f"{f'PARTITIONED BY ({partitions}) ' if partitions else ''}TBLPROPERTIES ({properties})"
        )

    @contextmanager
    def _user_metadata(self, run_id: str) -> Iterator[None]:
        """Let commits of the session carry the run's id."""
        self.spark.conf.set(_USER_METADATA, run_id)
        try:
            yield
        finally:
            self.spark.conf.unset(_USER_METADATA)

    def _replace(self, table: str, df: DataFrame, condition: Column) -> None:
        """Replace the rows that fulfil ``condition``; all new rows must fulfil it too."""
        rows = self._shaped(table, df)
        with_retries(lambda: rows.writeTo(self.name(table)).overwrite(condition))

    def _frame(self, table: str, rows: list[dict[str, Any]]) -> DataFrame:
        names = SCHEMAS[table].names
        return self.spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], SCHEMAS[table])

    def _shaped(self, table: str, df: DataFrame) -> DataFrame:
        """Select exactly the columns of a table, in its types."""
        present = set(df.columns)
        columns = []
        for field in SCHEMAS[table].fields:
            value = F.col(quote(field.name)) if field.name in present else F.lit(None)
            columns.append(value.cast(field.dataType).alias(field.name))
        return df.select(*columns)


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _is_creation_race(error: Exception) -> bool:
    is_race = isinstance(error, AnalysisException) and any(name in str(error) for name in _CREATED_MEANWHILE)
    return is_race or is_conflict(error)


def _new(name: str) -> Column:
    return F.col(f"{_NEW}.{quote(name)}")


def _may_replace(old: Callable[[str], Column], accept_new_source: bool) -> Column:
    """Return whether a new row may replace the old row of its company."""
    is_same_source = _new("source_id") == old("source_id")
    # A source that keeps no versions has none to compare.
    is_newer = F.coalesce(_new("source_version") >= old("source_version"), F.lit(True))
    # A company that left an earlier source may return in another one.
    is_free = F.lit(accept_new_source) | old("removed_in").isNotNull()
    return (is_same_source & is_newer) | (~is_same_source & is_free)
