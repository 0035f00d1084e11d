"""Run one SQL statement on the warehouse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import (
    AnalysisException,
    IllegalArgumentException,
    PySparkException,
    UnsupportedOperationException,
)

from jobs.site import Site
from ptec_udf.config import EngineConfig
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.log import logger
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.views import ensure_views

_QUOTING = ("DELTA_REPLACE_WHERE_MISMATCH",)
"""Of Delta's refusals those that quote a row."""


def run(site: Site, query: str, limit: int) -> dict[str, Any]:
    """Run ``query`` in our database; return at most ``limit`` rows, each a mapping of column to value.

    Raises:
        SourceError: when the statement cannot be run, with Spark's own explanation, but where it may quote a row.
    """
    engine = site.section(EngineConfig, "engine")
    warehouse = Warehouse(site.session("ptec sql"), site.warehouse.database)
    try:
        warehouse.ensure()
        ensure_views(warehouse)
    except ConfigError as error:
        # Not refused, since the statement may be the one that mends a table.
        for fault in error.errors:
            logger.warning(f"{fault}")
    except PySparkException as error:
        # Who may read and not write can ask all the same.
        logger.warning(
            f"tables or views could not be brought up to date ({error.getCondition() or type(error).__name__})"
        )
    warehouse.spark.catalog.setCurrentDatabase(warehouse.database)
    if "ptec_score" in query.lower():
        # Only here, since PyTorch comes with it, which takes seconds to load.
        from ptec_udf.warehouse.sql_function import register_ptec_score

        register_ptec_score(warehouse.spark, warehouse.database, engine=engine)
    try:
        answer = warehouse.spark.sql(query)
        rows = answer.toDF(*_apart(answer.columns)).limit(limit + 1).collect()
    except (PySparkException, Py4JJavaError) as error:
        if _is_of_the_statement(error):
            # Not getMessage(), which fails on some of Delta's refusals.
            message = str(error).strip().split("\n\nJVM stacktrace")[0]
            raise SourceError(f"the statement cannot be run: {message}") from None
        raise SourceError(f"the statement failed while it ran: {_why(error, query)}") from None
    if len(rows) > limit:
        logger.info(f"only the first {limit} rows are shown; --limit shows more")
    return {"rows": [row.asDict(recursive=True) for row in rows[:limit]]}


def _apart(columns: Sequence[str]) -> list[str]:
    """Number columns of the same name, which a mapping would hold once."""
    seen: Counter[str] = Counter()
    names = []
    for column in columns:
        seen[column] += 1
        names.append(column if seen[column] == 1 else f"{column} ({seen[column]})")
    return names


def _is_of_the_statement(error: Exception) -> bool:
    """Tell whether Spark, or Delta, refused a statement as it is written, before it read a row that it could quote."""
    if isinstance(error, AnalysisException | UnsupportedOperationException):
        return error.getCondition() not in _QUOTING
    # Of the driver, such as a version whose files are gone; those that tasks raise have a condition of Spark's.
    return isinstance(error, IllegalArgumentException) and (error.getCondition() or "DELTA_").startswith("DELTA_")


def _why(error: PySparkException | Py4JJavaError, query: str) -> str:
    """Say why a statement failed while it ran, and where, without quoting a row."""
    from ptec_udf.nightly.reason import reason_of  # only here, as above

    reason = reason_of(error)
    if isinstance(error, PySparkException):
        said = (error.getMessageParameters() or {}).get("errorMessage", "")
        if said and said in query:  # of assert_true and raise_error
            reason = said
        fragments = [one.fragment() for one in error.getQueryContext()]
        reason += "".join(f", at {fragment}" for fragment in fragments if fragment in query)
    if _is_of_utf8(error):
        reason += "; write make_valid_utf8(text) for texts that may not be valid UTF-8"
    return reason


def _is_of_utf8(error: Exception) -> bool:
    """Tell whether a worker failed since Spark hands no text to Python that is not valid UTF-8."""
    return any(words in str(error) for words in ("UnicodeDecodeError", "ArrowException", "ArrowInvalid"))
