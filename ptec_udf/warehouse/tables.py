"""The only reader and writer of our Delta tables, once they are created."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ptec_udf.errors import ConfigError
from ptec_udf.log import logger
from ptec_udf.text.columns import quote
from ptec_udf.warehouse.creation import create_table
from ptec_udf.warehouse.remote import DeltaLog
from ptec_udf.warehouse.retries import with_retries
from ptec_udf.warehouse.schemas import SCHEMAS, columns_to_add, schema_faults
from ptec_udf.warehouse.session import make_database

_NEW = "new_rows"
"""Name of what is merged, which no table of ours has."""


class Warehouse:
    """Our tables in one database.

    Attributes:
        spark: the session.
        database: name of the database, ``[A-Za-z0-9_]+``.
    """

    def __init__(self, spark: SparkSession, database: str = "ptec") -> None:
        self.spark = spark
        self.database = database
        self._logs: dict[str, DeltaLog] = {}

    def ensure(self) -> None:
        """Create what is missing, check what is there, and add what an earlier release did not have.

        Raises:
            ConfigError: if existing tables lack other columns or have wrong types; names them all.
        """
        make_database(self.spark, self.database)
        faults, to_add = [], {}
        for table in SCHEMAS:
            if self.spark.catalog.tableExists(self.name(table)):
                found = self.spark.table(self.name(table)).schema
                to_add[table] = columns_to_add(table, found)
                faults += schema_faults(table, T.StructType([*found.fields, *to_add[table].fields]))
            else:
                create_table(self.spark, self.database, table)
        if faults:
            raise ConfigError([f"database {self.database}: {fault}" for fault in faults])
        for table in [table for table, columns in to_add.items() if columns.fields]:
            with_retries(partial(self._add, table))

    def name(self, table: str) -> str:
        """Quoted name of a table or view of ours, database included."""
        return quote(self.database, table)

    def version(self, table: str) -> int:
        """Newest Delta version of a table of ours; reads the log only."""
        if table not in self._logs:
            self._logs[table] = DeltaLog(self.spark, self.name(table))
        return self._logs[table].version()

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """Read a table at a version; a frame that is not pinned changes with every commit.

        Args:
            table: one of ours.
            version: Delta version; None takes the newest at this call.
        """
        at = self.version(table) if version is None else version
        return self.spark.read.option("versionAsOf", at).table(self.name(table))

    def append(self, table: str, df: DataFrame) -> None:
        """Append rows; columns that ``df`` lacks become null."""
        rows = self._shaped(table, df)
        with_retries(lambda: rows.writeTo(self.name(table)).append())

    def append_rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Append rows given as dictionaries by column; a column left out becomes null."""
        self.append(table, self._frame(table, rows))

    def replace_run(self, table: str, df: DataFrame, run_id: str) -> None:
        """Write one run's rows in place of those that the same run wrote before."""
        self._replace(table, df, F.col("run_id") == F.lit(run_id))

    def replace_run_rows(self, table: str, rows: list[dict[str, Any]], run_id: str) -> None:
        """Write one run's rows, given as dictionaries, in place of those that the same run wrote before."""
        self.replace_run(table, self._frame(table, rows), run_id)

    def replace_model(self, table: str, rows: list[dict[str, Any]], model_id: str) -> None:
        """Write one model's rows, given as dictionaries, in place of those that are there."""
        self._replace(table, self._frame(table, rows), F.col("model_id") == F.lit(model_id))

    def delete_staged(self, model_id: str, run_id: str, before: datetime | None = None) -> None:
        """Remove scores that a run staged for its model, and those that any run staged for it before a time."""
        is_over = F.col("run_id") == F.lit(run_id)
        if before is not None:
            is_over |= F.col("staged_at") < F.lit(before)
        self.delete("score_staging", (F.col("model_id") == F.lit(model_id)) & is_over)

    def delete_left(self, model_id: str, before: datetime) -> None:
        """Remove what runs have staged that staged nothing since a time, but of other models that are being scored."""
        # Who is at work stages on, and counts on what killed runs of its model have staged.
        is_at_work = (F.col("until") > F.current_timestamp()) & (F.col("model_id") != F.lit(model_id))
        runs = self.read("score_staging").join(self.read("holds").where(is_at_work), on="model_id", how="left_anti")
        last = runs.groupBy("model_id", "run_id").agg(F.max("staged_at").alias("last"))
        for row in last.where(F.col("last") < F.lit(before)).collect():
            self.delete_staged(row["model_id"], row["run_id"])

    def merge_scores(self, df: DataFrame, model_id: str, accept_new_source: bool = False) -> None:
        """Write new scores, or old rows with ``removed_in`` set, over those of the same company and model.

        A row that is there is replaced only by one of an equal or newer version of the same source. Delta
        reads ``df`` twice: it must not hold a UDF. Wrap reading and merging together in ``with_retries``.

        Args:
            df: columns of ``scores``; at most one row a company; ``model_id`` is set here.
            model_id: the partition that is written.
            accept_new_source: also replace rows of another source, whatever their version.
        """
        rows = self._shaped("scores", df.withColumn("model_id", F.lit(model_id)))
        # The literal confines the conflict check to one partition: nights of other models go on beside it.
        old = partial(self.old, "scores")
        is_same_row = (old("model_id") == F.lit(model_id)) & (old("key") == _new("key"))
        values = {name: _new(name) for name in SCHEMAS["scores"].names}
        merge = rows.alias(_NEW).mergeInto(self.name("scores"), is_same_row)
        merge.whenMatched(_may_replace(old, accept_new_source)).update(values).whenNotMatched().insert(values).merge()

    def delete(self, table: str, condition: Column) -> None:
        """Remove rows that fulfil ``condition``."""
        if not self.read(table).where(condition).isEmpty():  # or a commit of nothing would be in others' way
            self._replace(table, self._frame(table, []), condition)

    def put_row(self, table: str, row: dict[str, Any], is_there: Column, replaced: Column | None = None) -> None:
        """Write a row where none fulfils ``is_there``, or over the one that does, if ``replaced`` is true of it.

        Of two writers at once the second finds what the first has written. Conditions name columns by ``old``.
        """
        values = {name: _new(name) for name in SCHEMAS[table].names}

        def put() -> None:
            merge = self._frame(table, [row]).alias(_NEW).mergeInto(self.name(table), is_there)
            if replaced is None:
                merge.whenNotMatched().insert(values).merge()
            else:
                merge.whenMatched(replaced).update(values).merge()

        with_retries(put)

    def old(self, table: str, column: str) -> Column:
        """Name a column of a table of ours in a merge."""
        return F.col(f"{self.name(table)}.{quote(column)}")

    def _replace(self, table: str, df: DataFrame, condition: Column) -> None:
        """Write rows, all of which fulfil ``condition``, in place of those that do."""
        rows = self._shaped(table, df)
        with_retries(lambda: rows.writeTo(self.name(table)).overwrite(condition))

    def _frame(self, table: str, rows: list[dict[str, Any]]) -> DataFrame:
        """Rows given as dictionaries by column; a column left out becomes null."""
        names = SCHEMAS[table].names
        return self.spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], SCHEMAS[table])

    def _shaped(self, table: str, df: DataFrame) -> DataFrame:
        """Exactly the columns of a table, in its types."""
        there = set(df.columns)
        columns = []
        for field in SCHEMAS[table].fields:
            value = F.col(quote(field.name)) if field.name in there else F.lit(None)
            columns.append(value.cast(field.dataType).alias(field.name))
        return df.select(*columns)

    def _add(self, table: str) -> None:
        """Add the columns that a table of ours lacks, which only its log is written for."""
        self.spark.catalog.refreshTable(self.name(table))  # another process may have added them
        columns = columns_to_add(table, self.spark.table(self.name(table)).schema)
        if not columns.fields:
            return
        self.spark.sql(f"ALTER TABLE {self.name(table)} ADD COLUMNS ({columns.toDDL()})")
        logger.info(f"table {self.database}.{table} is of an earlier release; it has {', '.join(columns.names)} now")


def _new(name: str) -> Column:
    """Name a column of the rows that are merged into a table."""
    return F.col(f"{_NEW}.{quote(name)}")


def _may_replace(old: Callable[[str], Column], accept_new_source: bool) -> Column:
    """Whether a new row may replace the old one of its company."""
    is_same_source = _new("source_id") == old("source_id")
    may = is_same_source & (_new("source_version") >= old("source_version"))
    # Who had left an earlier source was not written by the night that accepted another one, and may come back in it.
    is_free = F.lit(accept_new_source) | old("removed_in").isNotNull()
    return may | (~is_same_source & is_free)
