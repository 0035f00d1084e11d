"""The texts of the views and SQL functions in the folder ``sql``, one file for each, in Spark's dialect."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from ptec_udf.text.quoting import quote

VIEWS = (
    "current_scores",
    "label_scores",
    "why_changed",
    "label_drift",
    "drift_summary",
    "champion",
    "freshness",
    "screen_history",
    "run_summary",
)
FUNCTIONS = ("screen", "why_changed_of")
# Each after the views that it reads. The last one carries the hash of all of them.
FILES = (*VIEWS[:-1], *FUNCTIONS, VIEWS[-1])

_NAME = re.compile(r"\{database\}\.(\w+)")
_COLUMN = re.compile(r"^  (\w+)(?: ([A-Z]+))? COMMENT '((?:[^']|'')*)'", re.M)


@dataclass(frozen=True)
class ViewFile:
    """A view or function, in parts.

    Attributes:
        name: without the database.
        reads: tables and views of the query.
        parameters: types of a function's parameters by name, in Spark's dialect; empty for a view.
        comments: a comment for each column.
        query: in Spark's dialect.
    """

    name: str
    reads: frozenset[str]
    parameters: dict[str, str]
    comments: dict[str, str]
    query: str


def view_statements(database: str) -> list[str]:
    """Return the SQL statements that create the views and functions."""
    return [view_statement(file, database) for file in FILES]


def view_statement(file: str, database: str) -> str:
    """Return the SQL statement that creates one view or function."""
    return _text(file, database).replace("{definition}", definition(database))


def definition(database: str) -> str:
    """Return a hash of all texts."""
    return hashlib.sha256("".join(_text(file, database) for file in FILES).encode()).hexdigest()[:16]


def read_view_files(database: str) -> list[ViewFile]:
    """Return all views and functions in parts, each after the views that it reads."""
    return [_view_file(file, database) for file in FILES]


def _view_file(file: str, database: str) -> ViewFile:
    head, _, query = re.split(r"\n(AS|RETURN)\n", _read(file))
    parameters, _, result = head.rpartition("RETURNS TABLE")
    name, *_ = _NAME.findall(head)
    return ViewFile(
        name,
        frozenset(_NAME.findall(query)),
        {column: kind for column, kind, _ in _COLUMN.findall(parameters)},
        {column: comment.replace("''", "'") for column, _, comment in _COLUMN.findall(result)},
        query.replace("{database}", quote(database)),
    )


def _text(file: str, database: str) -> str:
    return _read(file).replace("{database}", quote(*database.split(".")))


def _read(file: str) -> str:
    return (files("ptec_udf.warehouse") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
