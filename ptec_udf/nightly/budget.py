"""Limits that end a run before its MERGE: companies with errors, companies that left the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ptec_udf.errors import ErrorBudgetError, RemovalBudgetError
from ptec_udf.monitor.failures import ErrorKind
from ptec_udf.nightly.diff import NEW, NO_KEY, REMOVED

_MIN_COMPANIES = 100
"""Smallest number of companies that a limit counts: a share of three companies is noise."""


def check_errors(kinds: Sequence[ErrorKind], n_companies: int, max_fraction: float) -> None:
    """Refuse more errors than a run may have.

    Args:
        kinds: errors of the companies that the run writes.
        n_companies: number of companies that it writes.
        max_fraction: share of them that may have errors.

    Raises:
        ErrorBudgetError: when more have; it names errors and keys.
    """
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


def check_removed(counts: Mapping[str, int], max_fraction: float) -> None:
    """Refuse a source that lacks too many companies: it may be half written, and all screens would be empty.

    Args:
        counts: number of companies by change type.
        max_fraction: share of the active companies that may be missing.

    Raises:
        RemovalBudgetError: when more are missing.
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
