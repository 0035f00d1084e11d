"""Finish a run after its MERGE: explain it, count it, measure its drift and close its row.

All of it follows from the version of table ``scores`` that the MERGE made, so a later run can do it for a killed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ptec_udf.errors import location_of
from ptec_udf.log import logger
from ptec_udf.monitor.drift import measure_drift
from ptec_udf.nightly.changes import write_changes
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.nightly.runs import DONE, INTERRUPTED, History, RunRecord


def finish(run: ScoringRun, record: RunRecord, version: int | None) -> dict[str, Any]:
    """Write the changes, counts and drift of ``run`` or of another run of its model or alias; close and return its row.

    ``version`` of ``scores`` was made by its MERGE; None if nothing changed.
    """
    if version is not None:
        write_changes(run.warehouse, record, version)
        record.count_written(run.warehouse, version)
        if run.config.drift.measure and record.model_id == run.model_id:  # whose labels it needs
            with log_failure("drift was not measured"):
                record.drifted, record.retrain = measure_drift(run, record, version)
    return record.close(run.warehouse, DONE)


def close_killed(run: ScoringRun, *, only_merged: bool = False) -> ScoringRun:
    """Close each other run of this model or alias that is still ``running``; return the run with the new history.

    A run whose MERGE is in the history of ``scores`` is finished; another one is ``interrupted``, unless
    ``only_merged``. A run that is in fact still working writes its own row when it ends.
    """
    rows = run.history.running(alias=run.alias, model_id=run.model_id, except_for=run.run_id)
    versions = run.warehouse.versions_by_run("scores") if rows else {}
    for record in map(RunRecord.of_row, rows):
        if record.run_id in versions:
            finish(run, record, versions[record.run_id])
            logger.info(f"run {record.run_id} had not ended after its MERGE; its changes and its row are complete now")
        elif not only_merged:
            record.close(run.warehouse, INTERRUPTED)
            logger.info(f"run {record.run_id} did not end; this run continues from the texts that it staged")
    return replace(run, history=History.read(run.warehouse)) if rows else run


@contextmanager
def log_failure(consequence: str) -> Iterator[None]:
    """Log a failure after the MERGE in place of raising it: the scores are written."""
    try:
        yield
    except Exception as error:
        logger.warning(f"{consequence}: {type(error).__name__} in {location_of(error)}")
