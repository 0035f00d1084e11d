"""A scoring run, from top to bottom: pin -> diff -> score -> publish -> explain -> record.

Killed at any moment, a rerun ends with the tables of an undisturbed run: scored texts wait in staging, the MERGE is one
commit that names its run, and all that explains it is derived from the two versions that it connects.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig
from ptec_udf.errors import BudgetError, PtecError
from ptec_udf.log import logger
from ptec_udf.monitor.drift import measure_drift
from ptec_udf.nightly import diff
from ptec_udf.nightly.budget import check_removed
from ptec_udf.nightly.changes import write_changes
from ptec_udf.nightly.killed import close_killed
from ptec_udf.nightly.plan import ScoringRun, check, nothing_to_do, pin_run, repin, start_run, superseded
from ptec_udf.nightly.publish import judge_errors, merge
from ptec_udf.nightly.reason import reason_of
from ptec_udf.nightly.runs import DONE, NOTHING, NULL_KEY, SUPERSEDED, RunRecord
from ptec_udf.nightly.shadows import score_shadows
from ptec_udf.nightly.stage import clear_staging, stage
from ptec_udf.warehouse.retries import with_retries
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.views import ensure_views


def score(spark: SparkSession, config: ScoreConfig) -> dict[str, Any]:
    """Score a source with a registered model, then with its shadows.

    Returns:
        The run's row: outcome (done, nothing_to_do, superseded), counts by status, rates; with ``shadows`` the outcome
        of each, failures among them.

    Raises:
        UserError: for a model, source, artifact or backbone that cannot be used; nothing is written.
        PtecError: when the run fails later; its row says failed, and a rerun continues where it stopped.
    """
    warehouse = Warehouse(spark, config.warehouse.database)
    warehouse.ensure()
    run = pin_run(warehouse, config)
    result = score_run(run)
    return result | ({"shadows": score_shadows(run, result, score_run)} if config.shadows else {})


def score_run(run: ScoringRun) -> dict[str, Any]:
    """Score with one model; returns and raises as ``score``."""
    check(run)
    ensure_views(run.warehouse)
    run, record = start_run(run)
    try:
        if close_killed(run, _measure):
            run = repin(run)
        outcome = _with_retries(run, record)
        result = record.close(run.warehouse, outcome)
    except (PySparkException, Py4JError) as error:
        reason = reason_of(error)
        failure = PtecError(f"the run failed: {reason}; see Spark's log. A rerun continues where it stopped")
        _record_failure(run, record, failure, reason)
        raise failure from error
    except Exception as error:
        _record_failure(run, record, error, error.reason if isinstance(error, BudgetError) else type(error).__name__)
        raise
    _best_effort("staging was not cleared; a later run does it", lambda: clear_staging(run))
    return result


def _record_failure(run: ScoringRun, record: RunRecord, error: Exception, reason: str) -> None:
    """Write the row of a run that failed, and name the run in its error."""
    record.close_failed(run.warehouse, reason)
    error.run_id = run.run_id  # type: ignore[attr-defined]


def _best_effort(message: str, action: Any) -> None:
    """Do what follows the run's result: its failure is logged and is no failure of the run."""
    try:
        action()
    except Exception as error:
        logger.warning(f"{message}: {type(error).__name__}")


def _with_retries(run: ScoringRun, record: RunRecord) -> str:
    """Do the run's work; after a conflict with another run compare with the newest versions again."""
    attempts = iter([run])
    return with_retries(lambda: _attempt(next(attempts, None) or repin(run), record))


def _attempt(run: ScoringRun, record: RunRecord) -> str:
    """Do the run's work on the pinned versions and return its outcome."""
    record.corrections_version = run.corrections_version
    for outcome, reason in ((NOTHING, nothing_to_do(run)), (SUPERSEDED, superseded(run))):
        if reason:
            logger.info(reason)
            return outcome
    logger.info(f"run {run.run_id}: version {run.source.version} of {run.source.name}, model {run.model_id[:12]}")
    counts = _compare(run, record)
    version = _write(run, record, counts)
    if version is not None or _is_new_to_screen(run):
        write_changes(run.warehouse, run.history, record, run.scores_version if version is None else version)
    if version is not None:
        record.count_written(run.warehouse, version)
        _measure(run, record, version)
    _summarise(record)
    return DONE


def _compare(run: ScoringRun, record: RunRecord) -> dict[str, int]:
    """Count companies by change type, and refuse a source that lacks too many."""
    counts = diff.count_change_types(diff.changes_of(run))
    record.skipped = counts.get(diff.SAME, 0)
    if null_keys := counts.get(diff.NO_KEY):
        record.counts[NULL_KEY] = null_keys
        logger.warning(f"{null_keys} rows have no {run.config.source.key!r} and cannot be scored")
    logger.info(", ".join(f"{name} {n}" for name, n in sorted(counts.items())) or "the source has no rows")
    if not run.config.source.accept_new:  # the companies of an earlier source may all be missing
        check_removed(diff.count_removals_on_screen(run) or counts, run.config.run.max_removed_fraction)
    return counts


def _write(run: ScoringRun, record: RunRecord, counts: dict[str, int]) -> int | None:
    """Score and merge what differs; return the version of ``scores`` that the MERGE made, None without one."""
    if not any(counts.get(change_type) for change_type in diff.TO_WRITE):
        return None
    difference = diff.stage_difference(run, diff.changes_of(run), counts)
    n_texts = difference.rows.where(F.col("cost").isNotNull()).count()
    if n_texts:
        staged = stage(run, difference)
        record.reused, record.dtype = n_texts - staged.texts, run.dtype
        if staged.texts:
            record.rows_per_second = round(staged.texts / staged.seconds, 2)
    judge_errors(run, record, difference)
    return merge(run, difference)


def _is_new_to_screen(run: ScoringRun) -> bool:
    """Return whether the run's alias showed another model, or none, before."""
    last = run.last_done
    return run.alias is not None and (last is None or last["model_id"] != run.model_id)


def _measure(run: ScoringRun, record: RunRecord, version: int) -> None:
    """Measure the drift of a run that wrote a version of ``scores``."""
    if run.config.drift.measure:
        _best_effort("drift was not measured", lambda: _set_drift(run, record, version))


def _set_drift(run: ScoringRun, record: RunRecord, version: int) -> None:
    record.drifted, record.retrain = measure_drift(run, record, version)


def _summarise(record: RunRecord) -> None:
    seconds = (datetime.now(UTC) - record.started).total_seconds()
    counts = ", ".join(f"{status} {n}" for status, n in sorted(record.counts.items())) or "nothing"
    logger.info(f"written: {counts}; {record.reused} texts reused, {seconds:.0f} s")
