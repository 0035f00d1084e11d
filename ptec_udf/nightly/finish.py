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
from ptec_udf.nightly.plan import ScoringRun, repin
from ptec_udf.nightly.runs import DONE, INTERRUPTED, RUNNING, History, RunRecord


def finish(run: ScoringRun, record: RunRecord, version: int | None) -> dict[str, Any]:
    """Write the changes, counts and drift of a run, close its row and return it.

    ``version`` of ``scores`` was made by its MERGE; None if nothing changed. Runs with an earlier one come first.
    """
    if version is not None:
        finish_merged(run, before=version)
        _explain(run, record, version)
    return record.close(run.warehouse, DONE)


def finish_merged(run: ScoringRun, before: int | None = None) -> list[RunRecord]:
    """Finish the other runs of this model or alias that have not ended after their MERGE, in its order.

    ``before``: only of earlier versions of ``scores``. Return the runs without a MERGE.
    """
    rows = History.read(run.warehouse).unfinished(alias=run.alias, model_id=run.model_id, except_for=run.run_id)
    records = {row["run_id"]: RunRecord.of_row(row) for row in rows}
    versions = run.warehouse.versions_by_run("scores") if rows else {}
    for run_id in sorted(records.keys() & versions.keys(), key=versions.__getitem__):
        record = records.pop(run_id)
        if before is None or versions[run_id] < before:
            _explain(run, record, versions[run_id])
            record.close(run.warehouse, DONE)
            logger.info(f"run {run_id} had not ended after its MERGE; its changes and its row are complete now")
    return list(records.values())


def close_killed(run: ScoringRun) -> ScoringRun:
    """Close each other run of this model or alias that has not ended; return the run with the newest versions.

    A run without a MERGE is ``interrupted``. One that is in fact still working writes its own row when it ends.
    """
    if not run.history.unfinished(alias=run.alias, model_id=run.model_id, except_for=run.run_id):
        return run
    for record in finish_merged(run):
        if record.outcome == RUNNING:
            record.close(run.warehouse, INTERRUPTED)
            logger.info(f"run {record.run_id} did not end; this run continues from the texts that it staged")
    return repin(run)


def _explain(run: ScoringRun, record: RunRecord, version: int) -> None:
    write_changes(run.warehouse, record, version)
    record.count_written(run.warehouse, version)
    if run.config.drift.measure and record.model_id == run.model_id:  # whose labels it needs
        with log_failure("drift was not measured"):
            record.drifted, record.retrain = measure_drift(run, record, version)


@contextmanager
def log_failure(consequence: str) -> Iterator[None]:
    """Log a failure after the MERGE in place of raising it: the scores are written."""
    try:
        yield
    except Exception as error:
        logger.warning(f"{consequence}: {type(error).__name__} in {location_of(error)}")
