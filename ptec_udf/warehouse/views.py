"""Views and the SQL function for analysts; their text is in the folder sql, one file each."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from ptec_udf.warehouse.tables import Warehouse

# In the order in which they need each other.
VIEWS = ("current_scores", "label_scores", "run_summary", "why_changed")
FUNCTIONS = ("screen",)


def ensure_views(warehouse: Warehouse) -> list[str]:
    """Create views and functions that are missing or whose text has changed.

    Returns:
        Names of those that were created.
    """
    created = []
    for name in (*VIEWS, *FUNCTIONS):
        statement, definition = _statement(warehouse, name)
        if definition not in _description(warehouse, name):
            warehouse.spark.sql(statement)
            created.append(name)
    return created


def _statement(warehouse: Warehouse, name: str) -> tuple[str, str]:
    """SQL text of a view or function, and the hash that is kept in it."""
    text = (files("ptec_udf.warehouse") / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    # The configuration allows letters, digits and underscores only in the name of the database.
    text = text.replace("{database}", warehouse.database)
    definition = hashlib.sha256(text.encode()).hexdigest()[:16]
    return text.replace("{definition}", definition), definition


def _description(warehouse: Warehouse, name: str) -> str:
    """What Spark tells of an existing view or function; empty if there is none."""
    spark, full = warehouse.spark, warehouse.name(name)
    if name in FUNCTIONS:
        if not spark.catalog.functionExists(full):
            return ""
        return "\n".join(str(row[0]) for row in spark.sql(f"DESCRIBE FUNCTION EXTENDED {full}").collect())
    if not spark.catalog.tableExists(full):
        return ""
    return "\n".join(str(row.value) for row in spark.sql(f"SHOW TBLPROPERTIES {full}").collect())
