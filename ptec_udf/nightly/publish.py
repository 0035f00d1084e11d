"""Judge a run's errors and write its scores in one MERGE."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ptec_udf.engine.scorer import ERROR
from ptec_udf.errors import ConflictError
from ptec_udf.log import logger
from ptec_udf.monitor.failures import kinds_of
from ptec_udf.nightly.budget import check_errors
from ptec_udf.nightly.diff import Difference
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.nightly.rows import error_column, score_rows
from ptec_udf.nightly.runs import RunRecord
from ptec_udf.nightly.stage import known_texts

_NEWEST_COMMITS = 100
"""Commits of other runs that may follow a run's own before it reads the history."""


def judge_errors(run: ScoringRun, record: RunRecord, difference: Difference) -> None:
    """Log the errors of a run and end it where they are too many.

    Errors of an earlier run that were tried again do not count: a permanent one would block all that are fixed.

    Raises:
        ErrorBudgetError: if there are too many errors.
    """
    status = known_texts(run, _hashes(difference), ("error",), broadcast=difference.is_small)
    failed = difference.rows.join(status, on="text_hash", how="left").withColumn("error", error_column())
    failed = failed.where(F.col("error").isNotNull())
    shape = (F.lit(ERROR).alias("status"), F.lit(None).alias("removed_in"))
    kinds = kinds_of(failed.where(~F.col("had_error")).select("key", "error", *shape))
    if kinds:
        n_retried = difference.rows.where(F.col("had_error")).count()
        record.counts[ERROR] = sum(kind.companies for kind in kinds)
        check_errors(kinds, difference.n_to_score - n_retried, run.config.run.max_error_fraction)
    for kind in kinds:
        logger.warning(str(kind))


def merge(run: ScoringRun, difference: Difference) -> int:
    """Write scores in one commit and return its version of table ``scores``.

    Raises:
        ConflictError: if another run has written scores of the model since this run compared them with the source.
    """
    check_unchanged(run)
    known = known_texts(run, _hashes(difference), broadcast=difference.is_small)
    run.warehouse.merge_scores(
        score_rows(run, difference.rows, known),
        model_id=run.model_id,
        run_id=run.run_id,
        accept_new_source=run.config.source.accept_new,
    )
    version = run.warehouse.version_of_run("scores", run.run_id, newest=_NEWEST_COMMITS)
    if version is None:
        raise ConflictError(f"the commit of run {run.run_id} is not in the history of table scores")
    return version


def check_unchanged(run: ScoringRun) -> None:
    """Refuse to merge if the model's scores changed since the run compared them with its source.

    A commit during the MERGE itself is Delta's own conflict.

    Raises:
        ConflictError: if another run has written since.
    """
    if run.warehouse.version("scores") == run.scores_version:
        return
    current = run.warehouse.read("scores").where(F.col("model_id") == F.lit(run.model_id))
    others = current.select("run_id").distinct().join(run.scores().select("run_id"), on="run_id", how="left_anti")
    if found := sorted(row["run_id"] for row in others.collect()):
        raise ConflictError(f"run {', '.join(found)} has written scores of the same model meanwhile; rerun the command")


def _hashes(difference: Difference) -> DataFrame:
    return difference.rows.where(F.col("cost").isNotNull()).select("text_hash").distinct()
