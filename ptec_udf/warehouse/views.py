"""Views and the SQL function for analysts; their text is in the folder sql, one file each."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.resources import files

from pyspark.errors import AnalysisException

from ptec_udf.warehouse.retries import with_retries
from ptec_udf.warehouse.tables import Warehouse

# By the file of their text, in the order in which they need each other. A function may be named as a view is.
_NAMES = ("current_scores", "label_scores", "run_summary", "why_changed", "label_drift", "drift_summary")
VIEWS = {name: name for name in _NAMES}
FUNCTIONS = {"screen": "screen", "why_changed_of": "why_changed"}

# Of Spark, and of Hive's catalog.
_CHANGED_MEANWHILE = (
    "_ALREADY_EXISTS",
    "_NOT_FOUND",
    "UNRESOLVED_ROUTINE",
    "AlreadyExistsException",
    "NoSuchObjectException",
)


def ensure_views(warehouse: Warehouse) -> list[str]:
    """Create views and functions that are missing or whose text has changed.

    Returns:
        Files of those that were created, in the folder sql.
    """
    return [
        file
        for file, name in (VIEWS | FUNCTIONS).items()
        if with_retries(partial(_ensure, warehouse, file, name), retry_if=_was_changed)
    ]


def _was_changed(error: Exception) -> bool:
    """Tell whether another run was replacing a view: that is to drop and to create it, for Spark."""
    return isinstance(error, AnalysisException) and any(words in str(error) for words in _CHANGED_MEANWHILE)


def _ensure(warehouse: Warehouse, file: str, name: str) -> bool:
    """Create one of them unless it is there; say whether it was not."""
    statement, definition = _statement(warehouse, file)
    described = _described_function(warehouse, name) if file in FUNCTIONS else _described_view(warehouse, name)
    if definition in described:
        return False
    warehouse.spark.sql(statement)
    return True


def _statement(warehouse: Warehouse, file: str) -> tuple[str, str]:
    """SQL text of a view or function, and the hash that is kept in it."""
    text = (files("ptec_udf.warehouse") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
    # The configuration allows letters, digits and underscores only in the name of the database.
    text = text.replace("{database}", warehouse.database)
    definition = hashlib.sha256(text.encode()).hexdigest()[:16]
    return text.replace("{definition}", definition), definition


def _described_view(warehouse: Warehouse, name: str) -> str:
    """What Spark tells of a view; empty if there is none."""
    spark, full = warehouse.spark, warehouse.name(name)
    if not spark.catalog.tableExists(full):
        return ""
    return "\n".join(str(row.value) for row in spark.sql(f"SHOW TBLPROPERTIES {full}").collect())


def _described_function(warehouse: Warehouse, name: str) -> str:
    """What Spark tells of a function; empty if there is none."""
    spark, full = warehouse.spark, warehouse.name(name)
    if not spark.catalog.functionExists(full):
        return ""
    return "\n".join(str(row[0]) for row in spark.sql(f"DESCRIBE FUNCTION EXTENDED {full}").collect())
