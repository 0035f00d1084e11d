"""Statements on a site's Spark, or on the Spark of an embedded warehouse."""

from __future__ import annotations

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, IllegalArgumentException, PySparkException, UnsupportedOperationException

from ptec_jobs.site import Site
from ptec_jobs.sql.answer import Answer
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.log import logger
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.views import create_views

_QUOTES_A_ROW = "DELTA_REPLACE_WHERE_MISMATCH"


def answer(site: Site, query: str, limit: int | None) -> Answer:
    """Run a statement in our database; return at most ``limit`` rows.

    Raise SourceError when the statement fails; with Spark's message, unless that may quote a row.
    """
    engine = site.section("engine")
    warehouse = Warehouse(site.session("ptec sql"), site.warehouse.database)
    _prepare(warehouse)
    if "ptec_score" in query.lower():
        from ptec_udf.warehouse.sql_function import register_ptec_score  # loads torch

        register_ptec_score(warehouse.spark, warehouse.database, engine=engine)
    try:
        found = warehouse.spark.sql(query.rstrip().removesuffix(";"))
        names = found.columns  # a mapping would keep one of two columns of the same name
        unique = [name if names.count(name) == 1 else f"{name} ({at})" for at, name in enumerate(names, 1)]
        found = found.toDF(*unique)
        rows = (found if limit is None else found.limit(limit)).collect()
    except (PySparkException, Py4JJavaError) as error:
        if _is_refusal(error):
            # Not getMessage(), which fails on some of Delta's refusals.
            message = str(error).strip().split("\n\nJVM stacktrace")[0]
            raise SourceError(f"the statement cannot be run: {message}") from None
        raise SourceError(f"the statement failed while it ran: {_reason(error, query)}") from None
    return Answer(unique, [row.asDict(recursive=True) for row in rows])


def _prepare(warehouse: Warehouse) -> None:
    """Create missing tables and views; where that fails only warn, since the statement may be the repair."""
    try:
        warehouse.ensure()
        create_views(warehouse.spark, warehouse.database)
    except ConfigError as error:
        logger.warning("; ".join(error.errors))
    except PySparkException as error:  # of a user who may only read, for one
        logger.warning(f"tables or views could not be updated ({error.getCondition() or type(error).__name__})")
    warehouse.spark.catalog.setCurrentDatabase(warehouse.database)


def _is_refusal(error: Exception) -> bool:
    """Whether Spark or Delta refused the statement as it is written, before a row was read that it could quote."""
    if isinstance(error, AnalysisException | UnsupportedOperationException):
        return error.getCondition() != _QUOTES_A_ROW
    # Raised by the driver, for instance for a version without files; errors of tasks have a condition of Spark's.
    return isinstance(error, IllegalArgumentException) and (error.getCondition() or "DELTA_").startswith("DELTA_")


def _reason(error: PySparkException | Py4JJavaError, query: str) -> str:
    """Return why and where a statement failed, without quoting a row."""
    from ptec_udf.nightly.reason import reason_of

    if any(word in str(error) for word in ("UnicodeDecodeError", "ArrowException", "ArrowInvalid")):
        return f"{reason_of(error)}; write make_valid_utf8(text) for texts that may not be valid UTF-8"
    if not isinstance(error, PySparkException):
        return reason_of(error)
    message = (error.getMessageParameters() or {}).get("errorMessage", "")
    fragments = [context.fragment() for context in error.getQueryContext()]
    places = [f"at {fragment}" for fragment in fragments if fragment in query]
    # The message of assert_true and raise_error, if the statement contains it.
    return ", ".join([message if message and message in query else reason_of(error), *places])
