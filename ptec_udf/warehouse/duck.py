"""DuckDB on the Delta tables of an embedded warehouse, with the same views and functions as in Spark."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, DeltaProtocolError
from sqlglot import exp

from ptec_udf.errors import ConfigError
from ptec_udf.warehouse.folder import find_tables
from ptec_udf.warehouse.translate import SETUP, parse, to_duckdb
from ptec_udf.warehouse.view_files import ViewFile, read_view_files


@dataclass
class DuckWarehouse:
    """A connection, and what it has.

    Attributes:
        tables: comments of the columns of each table and view, by (database, name).
        functions: names of the SQL functions.
        unreadable: reasons why a table cannot be read, by (database, name).
    """

    connection: duckdb.DuckDBPyConnection
    database: str
    tables: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    unreadable: dict[tuple[str, str], str] = field(default_factory=dict)


def connect(folder: str | Path, database: str = "ptec") -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection on an embedded warehouse; statements are in DuckDB's SQL.

    It has all Delta tables of ``folder``, each at its newest version, and the views and functions of ``database``,
    which is the current schema. Call it again to read newer versions.
    """
    return open_warehouse(folder, database).connection


def open_warehouse(folder: str | Path, database: str = "ptec") -> DuckWarehouse:
    """Connect to an embedded warehouse; raise ConfigError if the database has no tables."""
    found = find_tables(Path(folder))
    if database not in found:
        rule = f"warehouse.folder must have tables of the database {database!r}, was: {str(folder)!r}"
        raise ConfigError(f"{rule}; run ptec extract or ptec register first")
    warehouse = DuckWarehouse(duckdb.connect(), database)
    warehouse.connection.execute(SETUP)
    for name, (place, tables) in found.items():
        warehouse.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quote(name)}")
        for table in tables:
            _add_table(warehouse, name, table, place / table)
    for view in read_view_files(database):
        if all((database, name) in warehouse.tables for name in view.reads):
            _add_view(warehouse, view)
    warehouse.connection.execute(f"USE {_quote(database)}")
    return warehouse


def _add_table(warehouse: DuckWarehouse, database: str, name: str, folder: Path) -> None:
    """Add a table, whose rows are read when a query needs them."""
    try:
        table = DeltaTable(folder)
        rows = table.to_pyarrow_dataset()
    except (DeltaError, DeltaProtocolError, OSError) as error:
        reason = "its Delta features need Spark" if isinstance(error, DeltaProtocolError) else type(error).__name__
        warehouse.unreadable[database, name] = f"DuckDB cannot read the table {database}.{name}: {reason}"
        return
    warehouse.connection.register(f"{database}.{name}", rows)
    warehouse.connection.execute(f"CREATE VIEW {_quote(database, name)} AS FROM {_quote(f'{database}.{name}')}")
    comments = {one.name: str(one.metadata.get("comment", "")) for one in table.schema().fields}
    warehouse.tables[database, name] = comments


def _add_view(warehouse: DuckWarehouse, view: ViewFile) -> None:
    query = parse(view.query)
    for column in list(query.find_all(exp.Column)):
        if column.table == view.name and (kind := view.parameters.get(column.name)):
            column.replace(exp.cast(exp.column(column.name), kind, dialect="spark"))
    what, parameters, form = "VIEW", "", ""
    if view.parameters:
        what, parameters, form = "MACRO", f"({', '.join(map(_quote, view.parameters))})", "TABLE "
        warehouse.functions.append(view.name)
    else:
        warehouse.tables[warehouse.database, view.name] = view.comments
    name = _quote(warehouse.database, view.name)
    warehouse.connection.execute(f"CREATE {what} {name}{parameters} AS {form}{to_duckdb(query)}")


def _quote(*parts: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
