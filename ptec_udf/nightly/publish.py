"""Judge a run's removals and errors, and write its scores in one MERGE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ptec_udf.engine.scorer import ERROR
from ptec_udf.errors import ConflictError, ErrorBudgetError, RemovalBudgetError
from ptec_udf.log import logger
from ptec_udf.monitor.failures import ErrorKind, kinds_of
from ptec_udf.nightly.diff import CORRECTED, NEW, NO_KEY, REMOVED, RETRY, Difference
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.nightly.rows import error_column, score_rows
from ptec_udf.nightly.runs import History, RunRecord
from ptec_udf.nightly.stage import known_texts

_MIN_COMPANIES = 100  # the smallest number that a limit counts: a share of three companies is noise


def check_removed(counts: Mapping[str, int], max_fraction: float) -> None:
    """Refuse a source that lacks too many companies: it may be half written, and all screens would be empty.

    Raise RemovalBudgetError when more than ``max_fraction`` of the active companies are missing.
    """
    n_removed = counts.get(REMOVED, 0)
    n_active = sum(counts.values()) - counts.get(NEW, 0) - counts.get(NO_KEY, 0)
    if n_removed <= max_fraction * max(n_active, _MIN_COMPANIES):
        return
    raise RemovalBudgetError(
        f"{n_removed} of {n_active} active companies are missing from the source; run.max_removed_fraction allows "
        f"{max_fraction:g} of at least {_MIN_COMPANIES} companies. Nothing was scored or merged. If they are meant to "
        "go, add --set run.max_removed_fraction=1",
        f"more than {max_fraction:g} are missing",
    )


def check_errors(kinds: Sequence[ErrorKind], n_companies: int, max_fraction: float) -> None:
    """Raise ErrorBudgetError when more than ``max_fraction`` of the written companies have errors; it names keys."""
    n_errors = sum(kind.companies for kind in kinds)
    if n_errors <= max_fraction * max(n_companies, _MIN_COMPANIES):
        return
    lines = "\n".join(f"  {kind}" for kind in kinds)
    raise ErrorBudgetError(
        f"{n_errors} of {n_companies} companies have errors; run.max_error_fraction allows {max_fraction:g} of at "
        f"least {_MIN_COMPANIES} companies. Nothing was merged; scored texts are kept.\n{lines}\n"
        "Fix the source rows that 'ptec errors' lists and rerun the command. To merge with these errors, which takes "
        "the companies out of their screens, add --set run.max_error_fraction=1",
        f"more than {max_fraction:g} have errors",
    )


def judge_errors(run: ScoringRun, record: RunRecord, difference: Difference) -> None:
    """Log the errors of a run, and raise as ``check_errors``; earlier errors of the same texts do not count."""
    reasons = known_texts(run, difference.hashes(), ("error",))
    written = difference.rows.where(~F.col("change_type").isin(RETRY, CORRECTED))
    kinds = kinds_of(written.join(reasons, on="text_hash", how="left").withColumn("error", error_column()))
    if kinds:
        record.counts[ERROR] = sum(kind.companies for kind in kinds)
        n_companies = difference.n_to_score - difference.counts.get(RETRY, 0) - difference.counts.get(CORRECTED, 0)
        check_errors(kinds, n_companies, run.config.run.max_error_fraction)
    for kind in kinds:
        logger.warning(str(kind))


def merge(run: ScoringRun, difference: Difference) -> int:
    """Write scores in one commit and return its version of table ``scores``.

    Raise ConflictError if another run has written scores of the model since this run compared them with the source.
    """
    return _commit(run, score_rows(run, difference.rows, known_texts(run, difference.hashes())))


def move_screen(run: ScoringRun) -> int:
    """Write one unchanged score for a model that is new to its alias, and return as ``merge`` does.

    Delta's order of commits then tells which of several runs moved the screen.
    """
    companies = run.scores().where(F.col("removed_in").isNull())
    one = companies.where(F.col("key") == F.lit(companies.agg(F.min("key")).collect()[0][0]))
    return _commit(run, one.withColumns({"run_id": F.lit(run.run_id), "scored_at": F.lit(run.started)}))


def _commit(run: ScoringRun, rows: DataFrame) -> int:
    _check_unchanged(run)
    accepts = run.config.source.accept_new
    run.warehouse.merge_scores(rows, model_id=run.model_id, run_id=run.run_id, accept_new_source=accepts)
    return run.warehouse.versions_by_run("scores", run.scores_version)[run.run_id]


def _check_unchanged(run: ScoringRun) -> None:
    """Refuse to merge if the model's scores changed since the diff; later commits are Delta's own conflict."""
    if run.warehouse.version("scores") == run.scores_version:
        return
    later = run.warehouse.versions_by_run("scores", run.scores_version)
    rows = History.read(run.warehouse).rows
    if found := [row["run_id"] for row in rows if row["run_id"] in later and row["model_id"] == run.model_id]:
        raise ConflictError(f"run {', '.join(found)} has written scores of the same model meanwhile; rerun the command")
