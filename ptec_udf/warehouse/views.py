"""Views and SQL functions for analysts; the folder ``sql`` has one file for each."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.resources import files

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from ptec_udf.text.columns import quote
from ptec_udf.warehouse.retries import with_retries

VIEWS = ("current_scores", "label_scores", "why_changed", "label_drift", "drift_summary", "run_summary")
FUNCTIONS = ("screen", "why_changed_of")
# Each after the views that it reads. The last one carries the hash of all of them.
_FILES = (*VIEWS[:-1], *FUNCTIONS, VIEWS[-1])

_REPLACED = ("_ALREADY_EXISTS", "_NOT_FOUND", "UNRESOLVED_ROUTINE", "AlreadyExistsException", "NoSuchObjectException")


def create_views(spark: SparkSession, database: str) -> bool:
    """Create all views and functions, unless the database has their current text; return whether they were created."""
    if _definition(database) in _recorded_definition(spark, database):
        return False
    for statement in view_statements(database):
        with_retries(partial(spark.sql, statement), retry_if=_is_replaced_meanwhile)
    return True


def _is_replaced_meanwhile(error: Exception) -> bool:
    """Return whether another run is replacing the views: Hive drops a view and creates it again."""
    return isinstance(error, AnalysisException) and any(words in str(error) for words in _REPLACED)


def view_statements(database: str) -> list[str]:
    """Return the SQL statements that create the views and functions."""
    return [_text(file, database).replace("{definition}", _definition(database)) for file in _FILES]


def _text(file: str, database: str) -> str:
    text = (files("ptec_udf.warehouse") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
    return text.replace("{database}", quote(*database.split(".")))


def _definition(database: str) -> str:
    return hashlib.sha256("".join(_text(file, database) for file in _FILES).encode()).hexdigest()[:16]


def _recorded_definition(spark: SparkSession, database: str) -> str:
    """Return the properties of the last view; empty if there is no such view."""
    try:
        rows = spark.sql(f"SHOW TBLPROPERTIES {quote(*database.split('.'), VIEWS[-1])}").collect()
    except AnalysisException:
        return ""
    return "\n".join(str(row.value) for row in rows)
