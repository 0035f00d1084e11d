"""How many companies of a night may have errors, and how many may be gone, before it ends without a MERGE."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ptec_udf.errors import ErrorBudgetError, RemovalBudgetError
from ptec_udf.monitor.failures import ErrorKind
from ptec_udf.nightly.diff import GONE, NEW, NO_KEY, SAME
from ptec_udf.nightly.plan import Night

# A night of a few companies may have as many errors, or lack as many, as one of so many: one of three says nothing.
_LEAST_COMPANIES = 100


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
        f"(of at least {_LEAST_COMPANIES} companies). Nothing was merged, and what was scored is kept.\n{told}\n"
        "'ptec errors --config ...' lists them. Mend the source where a row is at fault; where it is not, --rescore "
        "scores them again. To merge the night as it is, which takes companies with errors out of their screens, give "
        "the same command with --set max_error_fraction=1",
        f"more than {max_fraction:g} have errors",
    )


def fates_of_shown(night: Night, changes: DataFrame) -> Mapping[str, int]:
    """Count companies by fate that another model shows, if this one takes its place: its own scores may be old.

    Returns:
        Nothing where it takes no other's place, or that shows none.
    """
    last = night.history.last_done(alias=night.record.alias, model_id=night.record.model_id)
    if last is None or last["model_id"] == night.record.model_id or last["source_id"] != night.source.source_id:
        return {}
    scores = night.warehouse.read("scores", night.scores_version)
    shown = scores.where((F.col("model_id") == last["model_id"]) & F.col("removed_in").isNull()).select("key")
    there = changes.where(F.col("fate") != GONE)
    n_shown, n_gone = shown.count(), shown.join(there, on="key", how="left_anti").count()
    return {GONE: n_gone, SAME: n_shown - n_gone} if n_shown else {}


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
