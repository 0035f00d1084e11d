"""Spark's SQL as DuckDB's: what sqlglot translates, and where both engines differ in meaning."""

from __future__ import annotations

import getpass
import logging
from typing import ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects import Spark
from sqlglot.errors import SqlglotError

from ptec_udf.errors import SourceError, UntranslatableError

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of each statement that it only copies

SETUP = """
CREATE MACRO spark_string(value) AS CASE typeof(value)
  WHEN 'TIMESTAMP WITH TIME ZONE' THEN regexp_replace(CAST(value AS VARCHAR), '\\+00$', '')
  ELSE CAST(value AS VARCHAR) END;
SET TimeZone = 'UTC';
SET ieee_floating_point_ops = false;
SET autoinstall_known_extensions = false;
SET python_enable_replacements = false;
"""
"""Makes DuckDB compute as Spark does: a division by zero is an error, names are of tables only."""


class Ansi(Spark):
    """Spark 4, whose casts and divisions fail where earlier versions returned null, and where '' is a quote."""

    SAFE_DIVISION = False

    class Tokenizer(Spark.Tokenizer):  # noqa: D106  sqlglot finds it by this name
        STRING_ESCAPES: ClassVar[list[str]] = ["\\", "'", '"']

    class Parser(Spark.Parser):  # noqa: D106  as above
        STRICT_CAST = True


def parse(statement: str) -> exp.Expr:
    """Parse one statement of Spark's SQL; raise UntranslatableError where that fails."""
    try:
        found = [tree for tree in sqlglot.parse(statement, dialect=Ansi) if tree is not None]
    except SqlglotError as error:
        raise UntranslatableError(f"the statement cannot be read: {_first_error(error)}") from None
    if len(found) != 1:
        raise SourceError(f"one statement at a time, was: {len(found)}")
    return found[0]


def to_duckdb(tree: exp.Expr) -> str:
    """Return a query in DuckDB's dialect, with Spark's names of columns; raise UntranslatableError if there is none."""
    tree = tree.copy()
    for select in list(tree.find_all(exp.Select)):
        select.set("expressions", [_named(one) for one in select.expressions])
    tree = tree.transform(_adapt)
    try:
        return tree.sql(dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)
    except SqlglotError as error:
        raise UntranslatableError(f"DuckDB cannot run the statement: {_first_error(error)}") from None


def _adapt(node: exp.Expr) -> exp.Expr:
    """Replace an expression that DuckDB computes in another way."""
    match node:
        case exp.ArgMax() | exp.ArgMin():  # DuckDB's arg_max skips rows whose value is null
            name = "arg_max_null" if isinstance(node, exp.ArgMax) else "arg_min_null"
            return exp.func(name, node.this, node.expression)
        case exp.Div() if not isinstance(node.this, exp.Cast):  # a float through a float is a double
            return exp.Div(this=exp.cast(node.this, "double"), expression=node.expression)
        case exp.Literal() if _is_decimal(node) and _meets_column(node):  # DuckDB would round a column's double to it
            return exp.cast(node.copy(), "double")
        case exp.Cast() if node.is_type("text"):
            return exp.func("spark_string", node.this)
        case exp.CurrentUser():
            return exp.Literal.string(getpass.getuser())
    return node


def _is_decimal(node: exp.Literal) -> bool:
    return not node.is_string and "." in node.name


def _meets_column(node: exp.Literal) -> bool:
    return isinstance(node.parent, exp.Binary | exp.Between | exp.In) and node.parent.find(exp.Column) is not None


def _named(column: exp.Expr) -> exp.Expr:
    """Name a column of a query as Spark names it."""
    if isinstance(column, exp.Alias | exp.Aliases | exp.Star | exp.Posexplode) or column.is_star:
        return column
    if isinstance(column, exp.Column | exp.Dot):
        return exp.alias_(column, column.name, quoted=True)
    if isinstance(column, exp.Explode):
        return exp.alias_(column, "col")
    return exp.alias_(column, _name_of(column), quoted=True)


def _name_of(column: exp.Expr) -> str:
    def plain(node: exp.Expr) -> exp.Expr:
        match node:
            case exp.Paren():
                return node.this.transform(plain)
            case exp.Column():
                return exp.column(node.name)
            case exp.Star() if isinstance(node.parent, exp.Count):
                return exp.Literal.number(1)
            case exp.Literal() if node.is_string:
                return exp.var(node.name)
        return node

    bare = column.copy().transform(plain)
    for node in list(bare.find_all(exp.Binary, exp.Not, exp.Is)):
        if node.parent is not None and not isinstance(node, exp.Dot):
            node.replace(exp.Paren(this=node.copy()))
    text = bare.sql(dialect=Ansi, normalize_functions="lower", identify=False)
    return f"({text})" if isinstance(bare, exp.Binary | exp.Not) and not isinstance(bare, exp.Dot) else text


def _first_error(error: SqlglotError) -> str:
    found = getattr(error, "errors", None)
    if found:
        where = f"line {found[0]['line']}, near {found[0]['highlight']!r}" if found[0].get("highlight") else ""
        return ", ".join(filter(None, [str(found[0]["description"]).rstrip("."), where]))
    return str(error).partition("\n")[0]
