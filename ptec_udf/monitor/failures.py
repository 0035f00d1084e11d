"""Companies without a score since something failed: by kind, with keys and no texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig
from ptec_udf.engine.result import ERROR
from ptec_udf.nightly.diff import AMBIGUOUS_KEY, changes_of, rows_to_write
from ptec_udf.nightly.plan import ScoringRun, pin_run
from ptec_udf.nightly.reason import failures_of
from ptec_udf.warehouse.tables import Warehouse

KEYS_SHOWN = 10
"""Of each kind."""

STANDING, KEPT = "scores", "kept by a night that stopped"


@dataclass(frozen=True)
class ErrorKind:
    """Companies with one error.

    Attributes:
        error: why they have no score.
        companies: number of them.
        keys: the first of them.
    """

    error: str
    companies: int
    keys: list[str]

    def __str__(self) -> str:
        """Say it in a line."""
        more = self.companies - len(self.keys)
        named = ", ".join(map(repr, self.keys)) + (f" and {more} more" if more else "")
        return f"{self.companies} without a score: {self.error}; keys {named}"


def kinds_of(rows: DataFrame, n_keys: int = KEYS_SHOWN) -> list[ErrorKind]:
    """Count failed companies by their error, the most frequent one first.

    Args:
        rows: key, status and error, and removed_in for companies that are gone, which are left out.
        n_keys: most keys of a kind.
    """
    failed = rows.where((F.col("status") == ERROR) & F.col("removed_in").isNull())
    of_kind = Window.partitionBy("error")
    place, companies = F.row_number().over(of_kind.orderBy("key")), F.count("*").over(of_kind)
    first = failed.select("error", "key", place.alias("place"), companies.alias("companies"))
    keys = F.sort_array(F.collect_list("key")).alias("keys")
    kinds = first.where(F.col("place") <= n_keys).groupBy("error", "companies").agg(keys)
    return sorted((ErrorKind(*row) for row in kinds.collect()), key=lambda kind: (-kind.companies, kind.error))


def list_errors(spark: SparkSession, config: ScoreConfig, n_keys: int = KEYS_SHOWN) -> dict[str, Any]:
    """List companies whose score failed: those that stand, and those of a night that stopped before it merged.

    Args:
        spark: the session.
        config: that of the night.
        n_keys: most keys of a kind.

    Returns:
        model_id, and errors: where, companies, error, keys.

    Raises:
        UserError: for a model, source or artifact that cannot be used.
        PtecError: when Spark fails.
    """
    warehouse = Warehouse(spark, config.warehouse.database)
    warehouse.ensure()
    run = pin_run(warehouse, config)
    with failures_of("errors"):
        found = {STANDING: kinds_of(run.scores(), n_keys)}
        if run.history.has_failed(alias=run.alias, model_id=run.model_id):
            found[KEPT] = kinds_of(_kept(run), n_keys)
    rows = [{"where": where} | asdict(kind) for where, kinds in found.items() for kind in kinds]
    return {"model_id": run.model_id, "errors": rows}


def _kept(run: ScoringRun) -> DataFrame:
    """Return companies with errors that runs have found and not merged: key, status, error, removed_in."""
    staged = run.warehouse.read("score_staging").where(F.col("logits_id") == run.logits_id)
    scored = staged.where(F.col("logits").isNotNull()).select("text_hash")
    failed = staged.where(F.col("status") == ERROR).select("text_hash", "error").dropDuplicates(["text_hash"])
    failed = failed.join(scored, on="text_hash", how="left_anti")
    wanted = rows_to_write(run, changes_of(run))
    error = F.when(F.col("is_ambiguous"), F.lit(AMBIGUOUS_KEY)).otherwise(F.col("error"))
    found = wanted.join(failed, on="text_hash", how="left").withColumn("error", error).where(F.col("error").isNotNull())
    return found.select("key", F.lit(ERROR).alias("status"), "error", F.lit(None).alias("removed_in"))
