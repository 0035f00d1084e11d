"""Creating a table of ours, also where others create it, or a killed process has left half of it."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from urllib.parse import unquote

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, UnknownException
from pyspark.sql import SparkSession

from ptec_udf.log import logger
from ptec_udf.text.columns import quote
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from ptec_udf.warehouse.files import list_files
from ptec_udf.warehouse.leftover import remove_leftover
from ptec_udf.warehouse.retries import with_retries
from ptec_udf.warehouse.schemas import PARTITIONED_BY, SCHEMAS

# Readers other than Spark refuse deletion vectors and v2 checkpoints, and read NULLs from mapped columns.
_PROPERTIES = {
    "delta.enableDeletionVectors": "false",
    "delta.columnMapping.mode": "none",
    "delta.checkpointPolicy": "classic",
}

# Delta's words for a folder with a log that has no table in it yet, and for a table that was not there at first.
_CREATED_BY_OTHERS = (
    "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION",
    "DELTA_STATE_RECOVER_ERROR",
    "DELTA_TABLE_ALREADY_EXISTS",  # although what is asked for is to create it if it does not
)

_WAIT_S = 2.0
_TRIES = 6


def create_table(spark: SparkSession, database: str, table: str) -> None:
    """Create a table of ours in a database that is there, unless another process does.

    Raises:
        AnalysisException: if its folder holds somebody else's data, or half a table that nobody completes in time.
        OSError, Py4JError: if its folder cannot be read or cleared.
    """
    build = partial(with_retries, partial(_build, spark, database, table))
    for tries_left in reversed(range(_TRIES)):
        try:
            build()
            return
        except (AnalysisException, Py4JError, UnknownException) as error:
            if not any(name in str(error) for name in _CREATED_BY_OTHERS):
                raise
            folder = _folder(spark, database, table)
            has_data = bool(list_files(spark, folder))  # before the next question: a table is there before its data
            if spark.catalog.tableExists(quote(database, table)):
                return  # of another process, meanwhile
            if has_data or not tries_left:
                raise  # data of somebody else, or half a table that nobody completes
        if not remove_leftover(spark, folder, older_than=_least_age(spark)):
            logger.info(f"table {database}.{table} is half created, perhaps by another process; waiting for it")
            time.sleep(_WAIT_S)


def _build(spark: SparkSession, database: str, table: str) -> None:
    """Create a table of ours where nothing is."""
    parts = ", ".join(map(quote, PARTITIONED_BY.get(table, ())))
    partitioned = f"PARTITIONED BY ({parts})" if parts else ""
    properties = ", ".join(f"'{key}' = '{value}'" for key, value in _PROPERTIES.items())
    spark.sql(
        f"CREATE TABLE IF NOT EXISTS {quote(database, table)} ({SCHEMAS[table].toDDL()}) USING delta {partitioned} "
        f"TBLPROPERTIES ({properties})"
    )


def _folder(spark: SparkSession, database: str, table: str) -> str:
    """Return where Spark puts a table of a database, whose own folder the catalog writes as a URI."""
    return f"{unquote(spark.catalog.getDatabase(database).locationUri)}/{table}"


def _least_age(spark: SparkSession) -> timedelta:
    """Say how old what a killed process has left must be: on a site, another one may be creating the table."""
    return timedelta(0) if spark.conf.get(FOLDER_SETTING, None) else timedelta(minutes=10)
