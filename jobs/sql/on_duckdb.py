"""Queries on an embedded warehouse by DuckDB, without Java."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import duckdb
from sqlglot import exp

from ptec_jobs.sql.answer import Answer
from ptec_udf.config import WarehouseConfig
from ptec_udf.errors import SourceError, UntranslatableError, UserError, did_you_mean
from ptec_udf.warehouse.duck import DuckWarehouse, open_warehouse
from ptec_udf.warehouse.translate import parse, to_duckdb

_PATHS = {"csv", "delta", "json", "orc", "parquet", "text"}
_SHOW = re.compile(r"\s*SHOW\s+(TABLES|VIEWS)\s*;?\s*", re.I)
_DESCRIBE = re.compile(r"\s*DESC(?:RIBE)?\s+(?:TABLE\s+)?(?:`?(\w+)`?\.)?`?(\w+)`?\s*;?\s*", re.I)
_UNKNOWN = re.compile(r'(?:Table with name|Referenced table|[Cc]olumn(?: named)?) "?(\w+)"?')


def answer(config: WarehouseConfig, statement: str, limit: int | None) -> Answer:
    """Answer one query in Spark's SQL at the newest versions of all tables.

    Raise UntranslatableError for a statement that only Spark runs, and SourceError for a statement that fails.
    """
    if _SHOW.fullmatch(statement):
        return _tables(_open(config))
    if described := _DESCRIBE.fullmatch(statement):
        return _columns(_open(config), described[1] or config.database, described[2])
    query = translate(statement)
    warehouse = _open(config)
    try:
        relation = warehouse.connection.sql(query)
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
        raise _refusal(warehouse, str(error).partition("\n")[0]) from None
    except duckdb.Error as error:
        raise _failure(error) from None
    names = _unique(relation.columns)
    whole = [str(kind) == "HUGEINT" for kind in relation.types]  # Spark's sum of whole numbers is a BIGINT
    try:
        table = (relation if limit is None else relation.limit(limit)).to_arrow_table()
    except duckdb.Error as error:
        raise _failure(error) from None
    columns = [column.to_pylist(maps_as_pydicts="strict") for column in table.columns]
    cells = [
        [int(value) if is_whole and value is not None else _plain(value) for value in column]
        for is_whole, column in zip(whole, columns, strict=True)
    ]
    return Answer(names, [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)])


def translate(statement: str) -> str:
    """Return a query in DuckDB's SQL; raise UntranslatableError unless it only reads tables of the warehouse."""
    tree = parse(statement)
    if not isinstance(tree, exp.Query | exp.Values) or tree.find(exp.DML, exp.Into):
        raise UntranslatableError("DuckDB only answers queries")
    if "ptec_score" in statement.lower():
        raise UntranslatableError("ptec_score needs the model")
    if any(table.db.lower() in _PATHS or table.args.get("version") for table in tree.find_all(exp.Table)):
        raise UntranslatableError("DuckDB reads the newest versions of the warehouse's tables only")
    return to_duckdb(tree)


def names_of(config: WarehouseConfig) -> list[str]:
    """Return the names of tables, views, functions and columns."""
    warehouse = _open(config)
    columns = {column for comments in warehouse.tables.values() for column in comments}
    return sorted({name for _, name in warehouse.tables} | columns | set(warehouse.functions))


def _open(config: WarehouseConfig) -> DuckWarehouse:
    assert config.folder is not None
    return open_warehouse(config.folder, config.database)


def _tables(warehouse: DuckWarehouse) -> Answer:
    rows = [{"database": database, "name": name} for database, name in sorted(warehouse.tables)]
    return Answer(["database", "name"], rows)


def _columns(warehouse: DuckWarehouse, database: str, name: str) -> Answer:
    comments = warehouse.tables.get((database, name))
    if comments is None:
        raise _unknown(warehouse, name)
    relation = warehouse.connection.table(f'"{database}"."{name}"')
    types = zip(relation.columns, map(str, relation.types), strict=True)
    rows = [{"column": column, "type": kind.lower(), "comment": comments.get(column, "")} for column, kind in types]
    return Answer(["column", "type", "comment"], rows)


def _refusal(warehouse: DuckWarehouse, message: str) -> UserError:
    """Return the error of a statement that DuckDB did not begin; Spark may run it unless a name is missing."""
    if warehouse.unreadable:
        return UntranslatableError(next(iter(warehouse.unreadable.values())))
    if found := _UNKNOWN.search(message):
        return _unknown(warehouse, found[1])
    return UntranslatableError(f"DuckDB cannot run the statement: {message}")


def _unknown(warehouse: DuckWarehouse, name: str) -> SourceError:
    known = {table for _, table in warehouse.tables} | set().union(*warehouse.tables.values())
    hint = did_you_mean(name, sorted(known), "SHOW TABLES lists all, DESCRIBE a table its columns")
    return SourceError(f"the statement cannot be run: there is no table or column {name!r}; {hint}")


def _failure(error: duckdb.Error) -> SourceError:
    """Return an error with the type only: a message may quote a row."""
    kind = type(error).__name__.removesuffix("Exception")
    return SourceError(f"the statement failed while it ran: {kind} error; --engine spark may say where")


def _unique(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({at})" for at, name in enumerate(names, 1)]


def _plain(value: Any) -> Any:
    match value:
        case datetime(tzinfo=zone) if zone is not None:
            return value.astimezone(UTC).replace(tzinfo=None)
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case list():
            return [_plain(part) for part in value]
    return value
