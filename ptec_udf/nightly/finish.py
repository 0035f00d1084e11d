"""Finish a run after its MERGE: explain it, count it, measure its drift and close its row.

All of it follows from the version of table ``scores`` that the MERGE made, so a later run can do it for a killed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ptec_udf.errors import location_of
from ptec_udf.log import logger
from ptec_udf.monitor.drift import measure_drift
from ptec_udf.nightly.changes import write_changes
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.nightly.runs import DONE, INTERRUPTED, History, RunRecord


def finish(run: ScoringRun, record: RunRecord, version: int | None, history: History) -> dict[str, Any]:
    """Write the changes, counts and drift of a run, close its row and return it.

    ``record`` is of ``run`` or of an earlier run of its model or alias. ``version`` of ``scores`` was made by its
    MERGE, and ``history`` has the runs before it.
    """
    if version is None:  # all companies are unchanged, but a model that is new to the alias changes the screen
        last = history.last_done(alias=record.alias)
        if record.alias and (last is None or last["model_id"] != record.model_id):
            write_changes(run.warehouse, history, record, run.scores_version)
    else:
        write_changes(run.warehouse, history, record, version)
        record.count_written(run.warehouse, version)
        if run.config.drift.measure and record.model_id == run.model_id:  # whose labels it needs
            with log_failure("drift was not measured"):
                record.drifted, record.retrain = measure_drift(run, record, version)
    return record.close(run.warehouse, DONE)


def close_killed(run: ScoringRun) -> bool:
    """Close each earlier run of this model or alias that is still ``running``; return whether there was one.

    A run whose MERGE is in the history of ``scores`` is finished; another one is ``interrupted``. A run that is in fact
    still working writes its own row when it ends.
    """
    rows = run.history.running(alias=run.alias, model_id=run.model_id, except_for=run.run_id)
    for row in rows:
        record = RunRecord.of_row(row)
        version = run.warehouse.version_of_run("scores", record.run_id)
        if version is None:
            record.close(run.warehouse, INTERRUPTED)
            logger.info(f"run {record.run_id} did not end; this run continues from the texts that it staged")
        else:
            finish(run, record, version, History.read(run.warehouse))
            logger.info(f"run {record.run_id} did not end after its MERGE; its changes and its row are complete now")
    return bool(rows)


@contextmanager
def log_failure(consequence: str) -> Iterator[None]:
    """Log a failure after the MERGE in place of raising it: the scores are written."""
    try:
        yield
    except Exception as error:
        logger.warning(f"{consequence}: {type(error).__name__} in {location_of(error)}")
