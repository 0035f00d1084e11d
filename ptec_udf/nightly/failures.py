"""Companies without a score since something failed: by kind, with keys and no texts. How many may be, or be gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig
from ptec_udf.engine.result import ERROR
from ptec_udf.errors import ErrorBudgetError, PtecError, RemovalBudgetError
from ptec_udf.nightly.diff import AMBIGUOUS_KEY, GONE, NEW, NO_KEY, SAME, TO_WRITE
from ptec_udf.nightly.plan import Night, pin_night
from ptec_udf.nightly.reason import reason_of
from ptec_udf.warehouse.tables import Warehouse

KEYS_SHOWN = 10
"""Of each kind."""

STANDING, KEPT = "scores", "kept by a night that stopped"

# A night of a few companies may have as many errors, or lack as many, as one of so many: one of three says nothing.
_LEAST_COMPANIES = 100


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


def check_budget(kinds: list[ErrorKind], n_companies: int, max_fraction: float) -> None:
    """Refuse more errors than a night may have.

    Args:
        kinds: errors of the companies that the night is to write.
        n_companies: that it is to write.
        max_fraction: share of them that may have errors.

    Raises:
        ErrorBudgetError: when more have; it names errors and keys.
    """
    n_errors = sum(kind.companies for kind in kinds)
    if n_errors <= max_fraction * max(n_companies, _LEAST_COMPANIES):
        return
    told = "\n".join(f"  {kind}" for kind in kinds)
    raise ErrorBudgetError(
        f"{n_errors} of {n_companies} companies have errors, max_error_fraction allows {max_fraction:g} of them "
        f"(of at least {_LEAST_COMPANIES} companies). Nothing was merged, what was scored is kept:\n{told}\n"
        "'ptec errors' lists them, 'ptec errors --rescore' scores them again; to merge them as they are, give the same "
        "command with --set max_error_fraction=1",
        f"more than {max_fraction:g} have errors",
    )


def fates_of_screen(night: Night, changes: DataFrame, fates: Mapping[str, int]) -> Mapping[str, int]:
    """Count companies that are shown by fate: those of an earlier model, where the night's own has no scores yet."""
    last = night.history.last_done(alias=night.record.alias, model_id=night.record.model_id)
    is_new_model = not fates.keys() - {NEW, NO_KEY}
    if not is_new_model or last is None or last["source_id"] != night.source.source_id:
        return fates
    scores = night.warehouse.read("scores", night.scores_version)
    shown = scores.where((F.col("model_id") == last["model_id"]) & F.col("removed_in").isNull()).select("key")
    n_shown, n_gone = shown.count(), shown.join(changes, on="key", how="left_anti").count()
    return {GONE: n_gone, SAME: n_shown - n_gone}


def check_removed(fates: Mapping[str, int], max_fraction: float) -> None:
    """Refuse a source that lacks more companies than it may: it may be half written, and all screens would be empty.

    Args:
        fates: number of companies by fate.
        max_fraction: share of those that stand which may be gone.

    Raises:
        RemovalBudgetError: when more are gone.
    """
    n_gone, n_standing = fates.get(GONE, 0), sum(fates.values()) - fates.get(NEW, 0) - fates.get(NO_KEY, 0)
    if n_gone <= max_fraction * max(n_standing, _LEAST_COMPANIES):
        return
    raise RemovalBudgetError(
        f"{n_gone} of {n_standing} companies are gone from the source, max_removed_fraction allows {max_fraction:g} of "
        f"them (of at least {_LEAST_COMPANIES} companies). Nothing was scored or merged. If they are to go, give the "
        "same command with --set max_removed_fraction=1",
        f"more than {max_fraction:g} are gone",
    )


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
    night = pin_night(warehouse, config)
    try:
        found = {STANDING: kinds_of(night.standing(), n_keys)}
        if night.history.has_failed(alias=night.record.alias, model_id=night.record.model_id):
            found[KEPT] = kinds_of(_kept(night), n_keys)
    except (PySparkException, Py4JError) as error:
        raise PtecError(f"errors failed with {reason_of(error)}, see Spark's own log") from error
    rows = [{"where": where} | asdict(kind) for where, kinds in found.items() for kind in kinds]
    return {"model_id": night.record.model_id, "errors": rows}


def _kept(night: Night) -> DataFrame:
    """Return companies with errors that nights have found and not merged: key, status, error, removed_in."""
    staged = night.warehouse.read("score_staging").where(F.col("model_id") == night.record.model_id)
    scored = staged.where(F.col("logits").isNotNull()).select("text_hash")
    failed = staged.where(F.col("status") == ERROR).select("text_hash", "error").dropDuplicates(["text_hash"])
    failed = failed.join(scored, on="text_hash", how="left_anti")
    wanted = night.changes().where(F.col("fate").isin(*TO_WRITE))
    error = F.when(F.col("conflict"), F.lit(AMBIGUOUS_KEY)).otherwise(F.col("error"))
    found = wanted.join(failed, on="text_hash", how="left").withColumn("error", error).where(F.col("error").isNotNull())
    return found.select("key", F.lit(ERROR).alias("status"), "error", F.lit(None).alias("removed_in"))
