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
    "run_summary",
)
FUNCTIONS = ("screen", "why_changed_of")
# Each after the views that it reads. The last one carries the hash of all of them.
FILES = (*VIEWS[:-1], *FUNCTIONS, VIEWS[-1])

_NAME = re.compile(r"\{database\}\.(\w+)")


@dataclass(frozen=True)
class ViewFile:
    """A view or function: its name, whether it is a function, and the tables and views that it reads."""

    file: str
    name: str
    is_function: bool
    reads: frozenset[str]


def view_statements(database: str) -> list[str]:
    """Return the SQL statements that create the views and functions."""
    return [view_statement(file, database) for file in FILES]


def view_statement(file: str, database: str) -> str:
    """Return the SQL statement that creates one view or function."""
    return _text(file, database).replace("{definition}", definition(database))


def definition(database: str) -> str:
    """Return a hash of all texts."""
    return hashlib.sha256("".join(_text(file, database) for file in FILES).encode()).hexdigest()[:16]


def read_view_files() -> list[ViewFile]:
    """Return all files, each after the views that it reads."""
    return [_view_file(file) for file in FILES]


def _view_file(file: str) -> ViewFile:
    code = re.sub(r"--.*", "", _read(file))
    name, *reads = _NAME.findall(code)
    return ViewFile(file, name, "FUNCTION {database}" in code, frozenset(reads))


def _text(file: str, database: str) -> str:
    return _read(file).replace("{database}", quote(*database.split(".")))


def _read(file: str) -> str:
    return (files("ptec_udf.warehouse") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
