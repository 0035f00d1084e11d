"""Companies without a score because something failed: by error, with keys and no texts."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig
from ptec_udf.engine.scorer import ERROR
from ptec_udf.nightly.diff import changes_of, rows_to_write
from ptec_udf.nightly.plan import ScoringRun, pin_run
from ptec_udf.nightly.rows import error_column

KEYS_SHOWN = 10


class ErrorKind(NamedTuple):
    """An error, the number of companies that have it, and the first keys."""

    error: str
    companies: int
    keys: list[str]

    def __str__(self) -> str:
        """Describe it in a line."""
        n_more = self.companies - len(self.keys)
        keys = ", ".join(map(repr, self.keys)) + (f" and {n_more} more" if n_more else "")
        return f"{self.companies} without a score: {self.error}; keys {keys}"


def kinds_of(rows: DataFrame, n_keys: int = KEYS_SHOWN) -> list[ErrorKind]:
    """Count companies by error, the most frequent first; rows have key and error, null without one."""
    failed = rows.where(F.col("error").isNotNull())
    by_error = Window.partitionBy("error")
    position, n_companies = F.row_number().over(by_error.orderBy("key")), F.count("*").over(by_error)
    numbered = failed.select("error", "key", position.alias("position"), n_companies.alias("companies"))
    keys = F.sort_array(F.collect_list("key")).alias("keys")
    kinds = numbered.where(F.col("position") <= n_keys).groupBy("error", "companies").agg(keys)
    return sorted((ErrorKind(*row) for row in kinds.collect()), key=lambda kind: (-kind.companies, kind.error))


def list_errors(spark: SparkSession, config: ScoreConfig, n_keys: int = KEYS_SHOWN) -> dict[str, Any]:
    """List companies whose score failed: in ``scores``, and found by a run that stopped before its MERGE.

    Return model_id, and errors: where, error, companies, keys. Raise UserError as ``pin_run``.
    """
    run = pin_run(spark, config)
    found = {"scores": kinds_of(run.scores().where(F.col("removed_in").isNull()), n_keys)}
    if run.history.has_failed(alias=run.alias, model_id=run.model_id):
        found["failed run"] = kinds_of(_not_merged(run), n_keys)
    rows = [{"where": where} | kind._asdict() for where, kinds in found.items() for kind in kinds]
    return {"model_id": run.model_id, "errors": rows}


def _not_merged(run: ScoringRun) -> DataFrame:
    """Return companies that a run would write, with the errors that runs have found and not merged: key and error."""
    staged = run.warehouse.read("score_staging").where(F.col("logits_id") == run.logits_id)
    scored = staged.where(F.col("logits").isNotNull()).select("text_hash")
    failed = staged.where(F.col("status") == ERROR).select("text_hash", "error").dropDuplicates(["text_hash"])
    failed = failed.join(scored, on="text_hash", how="left_anti")
    rows = rows_to_write(run, changes_of(run)).join(failed, on="text_hash", how="left")
    return rows.select("key", error_column().alias("error"))
