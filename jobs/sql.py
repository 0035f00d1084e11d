"""Run one SQL statement on the warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException, UnsupportedOperationException

from jobs.site import AnyConfig
from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.progress import say
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.views import ensure_views


def run(query: str, limit: int, config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Run ``query`` in our database; return at most ``limit`` rows, each a mapping of column to value.

    Raises:
        SourceError: when the statement cannot be run, with Spark's own explanation.
    """
    config = load_config(AnyConfig, config_file, overrides)
    warehouse = Warehouse(build_session(config.warehouse, "ptec sql"), config.warehouse.database)
    try:
        warehouse.ensure()
        ensure_views(warehouse)
    except ConfigError as error:
        # Not refused, since the statement may be the one that mends a table.
        for fault in error.faults:
            say(f"warning: {fault}")
    except PySparkException as error:
        # Who may read and not write can ask all the same.
        say(
            f"warning: tables or views could not be brought up to date ({error.getCondition() or type(error).__name__})"
        )
    warehouse.spark.catalog.setCurrentDatabase(warehouse.database)
    if "ptec_score" in query.lower():
        # Only here, since PyTorch comes with it, which takes seconds to load.
        from ptec_udf.sql_function import register_ptec_score

        register_ptec_score(warehouse.spark, warehouse.database, engine=config.engine)
    try:
        rows = warehouse.spark.sql(query).limit(limit + 1).collect()
    except (AnalysisException, UnsupportedOperationException) as error:  # before a row was read
        # Not getMessage(), which fails on some of Delta's refusals.
        message = str(error).strip().split("\n\nJVM stacktrace")[0]
        raise SourceError(f"the statement cannot be run: {message}") from None
    except (PySparkException, Py4JJavaError) as error:  # a task failed each time: a row, a worker, or reading a file
        from ptec_udf.nightly.reason import reason_of  # only here, as above

        # Its own message may quote a company's text.
        hint = "; write make_valid_utf8(text) for texts that may not be valid UTF-8" if _is_of_utf8(error) else ""
        raise SourceError(f"the statement cannot be run, a task of it failed: {reason_of(error)}{hint}") from None
    if len(rows) > limit:
        say(f"only the first {limit} rows are shown; --limit shows more")
    return {"rows": [row.asDict(recursive=True) for row in rows[:limit]]}


def _is_of_utf8(error: Exception) -> bool:
    """Tell whether a worker failed since Spark hands no text to Python that is not valid UTF-8."""
    return any(words in str(error) for words in ("UnicodeDecodeError", "ArrowException", "ArrowInvalid"))
