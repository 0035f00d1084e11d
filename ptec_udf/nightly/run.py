"""A scoring run, from top to bottom: pin -> diff -> score -> publish -> explain -> record.

Killed at any moment, a rerun ends with the tables of an undisturbed run: scored texts wait in staging, the MERGE is one
commit that names its run, and all that explains it is derived from the two versions that it connects.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig
from ptec_udf.errors import BudgetError, PtecError
from ptec_udf.log import logger
from ptec_udf.nightly import diff
from ptec_udf.nightly.finish import close_killed, finish, finish_merged, log_failure
from ptec_udf.nightly.plan import ScoringRun, check, nothing_to_do, pin_run, repin, superseded
from ptec_udf.nightly.publish import check_removed, judge_errors, merge, move_screen
from ptec_udf.nightly.reason import reason_of
from ptec_udf.nightly.runs import FAILED, NOTHING, NULL_KEY, SUPERSEDED, RunRecord
from ptec_udf.nightly.stage import clear_staging, stage
from ptec_udf.warehouse.retries import with_retries
from ptec_udf.warehouse.views import create_views


def score(spark: SparkSession, config: ScoreConfig) -> dict[str, Any]:
    """Score a source with a registered model; return the run's row: outcome, counts by status, rates.

    Raises:
        UserError: for a model, source, artifact or backbone that cannot be used; the run gets no row.
        PtecError: when the run fails later; its row says failed, and a rerun continues where it stopped.
    """
    run = pin_run(spark, config)
    check(run)
    create_views(run.warehouse.spark, run.warehouse.database)
    record = run.record()
    run.warehouse.append("runs", [asdict(record)])
    with _failure_recorded(run, record):
        run = close_killed(run)
        result = _publish(run, record)
    with log_failure("staging was not cleared, a later run does it"):
        clear_staging(run)  # also what a run left that was killed after its MERGE
    return result


def _skip(run: ScoringRun, record: RunRecord) -> dict[str, Any] | None:
    """Close a run that has no work and return its row; None if it may have work."""
    for outcome, reason in ((NOTHING, nothing_to_do(run)), (SUPERSEDED, superseded(run))):
        if reason:
            logger.info(reason)
            return record.close(run.warehouse, outcome)
    logger.info(f"run {run.run_id}: version {run.source.version} of {run.source.name}, model {run.model_id[:12]}")
    return None


@contextmanager
def _failure_recorded(run: ScoringRun, record: RunRecord) -> Iterator[None]:
    """Close the row of a run that fails, and name the run in its error."""
    try:
        yield
    except Exception as error:
        failure, reason = error, type(error).__name__
        if isinstance(error, BudgetError):
            reason = error.reason
        elif isinstance(error, PySparkException | Py4JError):
            reason = reason_of(error)
            failure = PtecError(f"the run failed: {reason}; see Spark's log. A rerun continues where it stopped")
        _close_failed(run, record, reason)
        failure.run_id = run.run_id  # type: ignore[attr-defined]
        raise failure from (None if failure is error else error)


def _close_failed(run: ScoringRun, record: RunRecord, reason: str) -> None:
    """Record a failure before the MERGE; after it the row stays as it is, and the next run finishes it."""
    with log_failure(f"run {run.run_id} failed and its row was not written"):  # the run's own error says more
        if run.run_id not in run.warehouse.versions_by_run("scores", run.scores_version):
            record.close(run.warehouse, FAILED, reason)


def _publish(run: ScoringRun, record: RunRecord) -> dict[str, Any]:
    """Diff, score, merge and finish; after a conflict finish the other run and compare with the newest versions."""
    pinned: list[ScoringRun] = []

    def attempt() -> dict[str, Any] | int | None:
        if pinned:
            run.warehouse.delete("diff_staging", F.col("run_id") == F.lit(run.run_id))
            finish_merged(run)
        pinned.append(repin(run) if pinned else run)
        return _skip(pinned[-1], record) or _diff_and_merge(pinned[-1], record)

    done = with_retries(attempt)
    return done if isinstance(done, dict) else finish(pinned[-1], record, done)


def _diff_and_merge(run: ScoringRun, record: RunRecord) -> int | None:
    record.corrections_version = run.corrections_version
    changes = diff.changes_of(run)
    counts = diff.count_change_types(changes)
    logger.info(", ".join(f"{name} {n}" for name, n in sorted(counts.items())) or "the source has no rows")
    record.skipped, record.counts = counts.get(diff.SAME, 0), {}
    if null_keys := counts.get(diff.NO_KEY):
        record.counts[NULL_KEY] = null_keys
        logger.warning(f"{null_keys} rows have no {run.config.source.key!r} and cannot be scored")
    if not run.config.source.accept_new:  # the companies of an earlier source may all be missing
        check_removed(diff.count_removals_on_screen(run) or counts, run.config.run.max_removed_fraction)
    if counts.keys() <= {diff.SAME, diff.NO_KEY}:
        is_new_to_alias = run.alias and (run.last_shown is None or run.last_shown["model_id"] != run.model_id)
        return move_screen(run) if record.skipped and is_new_to_alias else None
    difference = diff.stage_difference(run, changes, counts)
    stage(run, record, difference)
    judge_errors(run, record, difference)
    return merge(run, difference)
