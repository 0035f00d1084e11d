"""The night, from top to bottom: source table -> what is new -> staging -> scores, changes, run.

Whatever moment it is killed at, a rerun ends as an undisturbed night would have: scored texts wait in
staging, score_changes of a run are replaced as a whole, MERGE is one commit, and the run's row comes
after it. Staging is cleared last.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from py4j.protocol import Py4JError
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig, ShadowConfig
from ptec_udf.engine.udf import engine_settings
from ptec_udf.errors import BudgetError, HeldError, PtecError
from ptec_udf.log import logger
from ptec_udf.monitor.drift import measure_drift
from ptec_udf.nightly import diff
from ptec_udf.nightly.budget import check_removed, fates_of_shown
from ptec_udf.nightly.hold import held
from ptec_udf.nightly.plan import Night, as_it_is_now, check, nothing_to_do, pin_night, superseded
from ptec_udf.nightly.publish import write
from ptec_udf.nightly.reason import reason_of
from ptec_udf.nightly.recover import finish_killed
from ptec_udf.nightly.runs import DONE, NOTHING, NULL_KEY, SUPERSEDED
from ptec_udf.nightly.shadows import find_shadows, score_shadows
from ptec_udf.nightly.stage import Staged, forget_errors, fresh_texts, stage
from ptec_udf.warehouse.remote import off_its_tables
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.views import ensure_views


def score(spark: SparkSession, config: ScoreConfig) -> dict[str, Any]:
    """Score a source table with a registered model, and after it with its shadows.

    Returns:
        The run's row: outcome (done, nothing_to_do, superseded), counts by status, rates; and with ``shadows``
        what became of each, failures among them.

    Raises:
        UserError: for a model, source, artifact or backbone that cannot be used; nothing is written.
        PtecError: when the night fails later; the run's row says failed, and a rerun goes on where it stopped.
    """
    warehouse = Warehouse(spark, config.warehouse.database)
    warehouse.ensure()
    night = pin_night(warehouse, config)
    shadows = find_shadows(night)
    result = score_night(night)
    return result | {"shadows": score_shadows(night, shadows, result, score_night)} if shadows else result


def score_night(night: Night) -> dict[str, Any]:
    """Score with one model; returns and raises as ``score``."""
    if not _left_staged(night) and (result := _needless(night)):
        return result
    with held(night.warehouse, night.record.model_id, night.record.run_id, night.record.alias) as still_held:
        night = as_it_is_now(night)  # another run may have ended before this one had its hold
        if result := _needless(night):
            _cleared(night)
            return result
        check(night)
        ensure_views(night.warehouse)
        return _recorded(night, still_held)


def _needless(night: Night) -> dict[str, Any] | None:
    """Record a night that has nothing to do, or is older than the scores that stand; None: it is to run."""
    if reason := nothing_to_do(night):
        logger.info(reason)
        return night.record.write(night.warehouse, NOTHING)
    if reason := superseded(night):
        logger.info(reason)
        return night.record.write(night.warehouse, SUPERSEDED)
    return None


def _recorded(night: Night, still_held: Callable[[], None]) -> dict[str, Any]:
    """Do the night's work and write its row, however it ends."""
    warehouse = night.warehouse
    try:
        night = finish_killed(night)
        _run(night, still_held)
    except HeldError:
        raise  # the run that has taken over is of the same name, and writes the row
    except (PySparkException, Py4JError) as error:
        kind = reason_of(error)
        told = PtecError(f"the night failed with {kind}, see Spark's own log; a rerun goes on where it stopped")
        _write_failed(night, told, kind)
        raise told from error
    except Exception as error:
        _write_failed(night, error, error.reason if isinstance(error, BudgetError) else type(error).__name__)
        raise
    row = night.record.write(warehouse, DONE)
    _cleared(night)  # not before: a rerun counts tokens by what is staged
    return row


def _write_failed(night: Night, error: Exception, kind: str) -> None:
    """Write the row of a night that failed, and into its error of which run it is."""
    night.record.write_failed(night.warehouse, kind)
    error.run_id = night.record.run_id  # type: ignore[attr-defined]


def _run(night: Night, still_held: Callable[[], None]) -> None:
    """Do the night's work; for ``still_held`` see ``held``."""
    record = night.record
    logger.info(
        f"run {record.run_id}: version {night.source.version} of {night.source.name}, model {record.model_id[:12]}"
    )
    if night.config.retry_errors and night.history.has_failed_as(record.run_id):  # what it failed by may be mended
        forget_errors(night.warehouse, model_id=record.model_id, run_id=record.run_id)
    changes = night.changes()
    if night.source.kind != "delta":  # what is read anew, since somebody wrote to it, may be another version
        changes = off_its_tables(changes)
    todo = changes.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        fates, n_texts = diff.count_fates(changes)
        if fates.get(diff.WRITTEN):
            # What was corrected after the kill is left to the next night, or this run's changes were of that alone.
            record.corrections_version, todo = None, todo.where(F.col("fate") != diff.CORRECTED)
            fates, n_texts = diff.count_fates(todo)
        record.skipped = fates.get(diff.SAME, 0)
        if null_keys := fates.get(diff.NO_KEY):
            record.counts[NULL_KEY] = null_keys
            logger.warning(f"{null_keys} rows have no {night.config.source.key!r} and cannot be scored")
        logger.info(", ".join(f"{fate} {count}" for fate, count in sorted(fates.items())) or "the source has no rows")
        if not night.config.source.accept_new:  # the companies of an earlier source may all be gone
            check_removed(fates_of_shown(night, changes) or fates, night.config.max_removed_fraction)
        staged = _stage(night, todo, n_texts) if diff.has_texts(fates) else Staged()
        write(night, todo, fates, still_held)
        still_held()  # else another run's scores would be measured
        _summarise(night, staged)
        if night.config.drift.measure and record.has_written:
            _afterwards("drift was not measured", lambda: measure_drift(night, fates))
        still_held()  # else that run writes this row, from what is staged
    finally:
        changes.unpersist()


def _afterwards(if_not: str, action: Callable[[], None]) -> None:
    """Do what comes once scores stand: a failure of it is said, and is no failure of the night."""
    try:
        action()
    except Exception as error:
        logger.warning(f"{if_not}, by a {type(error).__name__}")


def _stage(night: Night, changes: DataFrame, n_texts: int) -> Staged:
    """Score each distinct text that is not known yet, once; ``n_texts`` companies have one of them."""
    staged = stage(
        night.warehouse,
        fresh_texts(changes, night.known()),
        artifact=night.artifact,
        engine=night.config.engine,
        n_slices=-(-n_texts // night.config.slice_texts) or 1,
        run_id=night.record.run_id,
    )
    night.record.reused = n_texts - staged.texts
    if n_texts and night.artifact.manifest.backbone:
        night.record.dtype = engine_settings(night.warehouse.spark, night.config.engine).dtype
    return staged


def _left_staged(night: Night) -> list[str]:
    """Name runs that have ended well and whose staging for the model is there.

    They were killed after their row, or are a champion's, which staged for a shadow in its pass.
    """
    staged = night.warehouse.read("score_staging").where(F.col("model_id") == F.lit(night.record.model_id))
    done = {row["run_id"] for row in night.history.rows if row["outcome"] == DONE}
    return [row["run_id"] for row in staged.select("run_id").distinct().collect() if row["run_id"] in done]


def _clear_staging(night: Night) -> None:
    """Remove what the night staged, what runs that ended well left, of a shadow all from before it, and old rows."""
    record = night.record
    is_shadow = isinstance(night.config, ShadowConfig)
    night.warehouse.delete_staged(record.model_id, record.run_id, before=record.started if is_shadow else None)
    for run_id in _left_staged(night):
        night.warehouse.delete_staged(record.model_id, run_id)
    begun = min(record.started, datetime.now(UTC))  # a run after one whose clock was ahead begins after it
    night.warehouse.delete_left(record.model_id, before=begun - timedelta(days=night.config.keep_staged_days))


def _cleared(night: Night) -> None:
    """Clear staging, if it can be done."""
    _afterwards("what was staged was not cleared away, a later night does it", lambda: _clear_staging(night))


def _summarise(night: Night, staged: Staged) -> None:
    """Fill in the run's row and say what was done."""
    record = night.record
    record.count_written(night.warehouse)
    if staged.texts:
        record.rows_per_second = round(staged.texts / staged.seconds, 2)
    seconds = (datetime.now(UTC) - record.started).total_seconds()
    counts = ", ".join(f"{status} {count}" for status, count in sorted(record.counts.items()))
    estimated = f", {record.estimated_seconds:.0f} s were estimated" if record.estimated_seconds else ""
    logger.info(f"written: {counts}; {staged.texts} texts scored, {record.reused} reused, {seconds:.0f} s{estimated}")
