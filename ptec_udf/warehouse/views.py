"""Views and SQL functions for analysts, created in Spark."""

from __future__ import annotations

from functools import partial

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from ptec_udf.text.quoting import quote
from ptec_udf.warehouse.retries import with_retries
from ptec_udf.warehouse.view_files import VIEWS, definition, view_statements

_REPLACED = ("_ALREADY_EXISTS", "_NOT_FOUND", "UNRESOLVED_ROUTINE", "AlreadyExistsException", "NoSuchObjectException")


def create_views(spark: SparkSession, database: str) -> bool:
    """Create all views and functions, unless the database has their current text; return whether they were created."""
    if definition(database) in _recorded_definition(spark, database):
        return False
    for statement in view_statements(database):
        with_retries(partial(spark.sql, statement), retry_if=_is_replaced_meanwhile)
    return True


def _is_replaced_meanwhile(error: Exception) -> bool:
    """Return whether another run is replacing the views: Hive drops a view and creates it again."""
    return isinstance(error, AnalysisException) and any(words in str(error) for words in _REPLACED)


def _recorded_definition(spark: SparkSession, database: str) -> str:
    """Return the properties of the last view; empty if there is no such view."""
    try:
        rows = spark.sql(f"SHOW TBLPROPERTIES {quote(*database.split('.'), VIEWS[-1])}").collect()
    except AnalysisException:
        return ""
    return "\n".join(str(row.value) for row in rows)
