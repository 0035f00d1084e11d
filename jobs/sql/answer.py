"""Answer one statement: choose the engine, and print or write its rows."""

from __future__ import annotations

import csv
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ptec_jobs.cli_data import Engine
from ptec_jobs.output import as_cell
from ptec_jobs.site import Site
from ptec_udf.errors import ConfigError, UntranslatableError
from ptec_udf.log import logger

_N_PRINTED = 100


class Answer(NamedTuple):
    """Names of the columns, without duplicates, and the rows by name; times are in UTC without a zone."""

    names: list[str]
    rows: list[dict[str, Any]]


class Output(NamedTuple):
    """Where rows go: into a file, or to standard output as CSV, or as the command's result; ``limit``: rows at most."""

    out: Path | None = None
    as_csv: bool = False
    limit: int | None = None

    def check(self) -> None:
        """Raise ConfigError for a file that cannot be written, before any work."""
        if self.out is not None:
            from ptec_jobs.files import check_writable  # loads pandas

            check_writable(self.out)


def run(site: Site, statement: str, engine: Engine, output: Output) -> dict[str, Any]:
    """Answer one statement; return the text to print: none if rows were printed as CSV.

    Raise SourceError when the statement fails, with a message that does not quote a row.
    """
    is_whole = output.as_csv or output.out is not None
    limit = output.limit or (None if is_whole else _N_PRINTED)
    found = answer(site, statement, engine, limit and limit + 1)
    rows = found.rows[:limit]
    if len(rows) < len(found.rows):
        logger.info(f"only the first {limit} rows are shown; --limit shows more")
    if output.out is not None:
        import pandas as pd

        from ptec_jobs.files import write_table

        # As objects, or pandas would make decimals of whole numbers in a column with nulls.
        write_table(pd.DataFrame(rows, columns=found.names, dtype=object), output.out)
        return {"out": str(output.out), "rows": len(rows)}
    if not output.as_csv:
        return {"rows": rows}
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerows([found.names, *([as_cell(value) for value in row.values()] for row in rows)])
    return {}


def answer(site: Site, statement: str, engine: Engine, limit: int | None) -> Answer:
    """Return at most ``limit`` rows; ``auto`` takes DuckDB for a query on an embedded warehouse, and else Spark."""
    if engine == "duckdb" and site.warehouse.folder is None:
        raise ConfigError(
            "--engine duckdb reads an embedded warehouse: warehouse.folder is not set; use --engine spark"
        )
    if engine == "duckdb" or (engine == "auto" and has_duckdb(site)):
        from ptec_jobs.sql import on_duckdb

        try:
            return on_duckdb.answer(site.warehouse, statement, limit)
        except UntranslatableError as error:
            if engine == "duckdb":
                raise
            logger.info(f"Spark starts, which takes a while: {error}")
    from ptec_jobs.sql import on_spark

    return on_spark.answer(site, statement, limit)


def has_duckdb(site: Site) -> bool:
    """Whether DuckDB can answer: embedded warehouse, extra ``sql`` installed, no session begun by spark-submit."""
    if site.warehouse.folder is None:
        return False
    return "PYSPARK_GATEWAY_PORT" not in os.environ and all(map(find_spec, ("duckdb", "deltalake", "sqlglot")))
