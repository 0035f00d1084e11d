"""Judge the distributions of a run against its references, and decide when it is time to retrain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptec_udf.monitor.distribution import Counts, Shift, compare
from ptec_udf.monitor.drift_config import DriftConfig

ALL, FRESH = "all", "fresh"
PROBABILITY, MIX, TOKENS, STATUS = "probability", "mix", "tokens", "status"
TRAINING, RUNS = "training", "runs"


@dataclass(frozen=True)
class Key:
    """Population, figure and, of figure ``probability``, the label of a distribution."""

    population: str
    figure: str
    label: str | None = None

    def __str__(self) -> str:
        """Name it in a message."""
        return f"{self.population} {self.figure}" + (f" of {self.label!r}" if self.label is not None else "")


@dataclass
class Distribution:
    """Companies by bin, of a run or of a reference.

    Attributes:
        companies: number of companies that were counted.
        counts: companies by bin; of ``mix`` a company is in as many bins as it has labels.
        mean: mean of the figure; None if it has none.
        over: companies at or over the label's threshold; None of other figures than ``probability``.
    """

    companies: int
    counts: Counts
    mean: float | None = None
    over: int | None = None


@dataclass(frozen=True)
class Violation:
    """A distribution that exceeds a limit.

    Attributes:
        excess: measured value over its limit.
    """

    key: Key
    reference: str
    message: str
    excess: float

    def __str__(self) -> str:
        """State it in a line."""
        return f"{self.key}: {self.message}"


def judge(
    measured: Mapping[Key, Distribution],
    training: Mapping[tuple[str, str | None], Distribution],
    earlier: Mapping[Key, Distribution],
    config: DriftConfig,
) -> tuple[list[dict[str, Any]], list[Violation]]:
    """Compare a run's distributions with its references.

    Args:
        measured: distributions of the run.
        training: those of held-out training rows, by figure and label.
        earlier: sums over earlier runs.
        config: the limits.

    Returns:
        Rows of table ``drift`` without the columns of the run, and the violations, the largest excess first.
    """
    rows, violations = [], []
    for key, found in measured.items():
        row: dict[str, Any] = {"population": key.population, "figure": key.figure, "label": key.label}
        row |= {"companies": found.companies, "mean": found.mean, "counts": found.counts, "violated": []}
        row["share"] = None if found.over is None else found.over / found.companies
        for name, reference, limit in (
            (TRAINING, training.get((key.figure, key.label)), config.psi_training),
            (RUNS, earlier.get(key), config.psi_runs),
        ):
            if reference is None or limit is None or not _are_comparable(reference, found, config):
                continue
            shift = compare(reference.counts, reference.companies, found.counts, found.companies)
            row[f"psi_{name}"] = shift.psi
            over = [*_judge_shift(key, name, shift, limit), *_judge_share(key, name, reference, found, config)]
            violations += over
            row["violated"] += [name] if over else []
        rows.append(row)
    return rows, sorted(violations, key=lambda one: -one.excess)


def _are_comparable(reference: Distribution, found: Distribution, config: DriftConfig) -> bool:
    has_counts = bool(sum(reference.counts.values()) and sum(found.counts.values()))
    return has_counts and min(reference.companies, found.companies) >= config.min_companies


def _judge_shift(key: Key, name: str, shift: Shift, limit: float) -> list[Violation]:
    limit = max(limit, shift.chance)
    if shift.psi <= limit:
        return []
    return [Violation(key, name, f"PSI {shift.psi:.2f} against {name}, limit {limit:.2f}", shift.psi / limit)]


def _judge_share(
    key: Key, name: str, reference: Distribution, found: Distribution, config: DriftConfig
) -> list[Violation]:
    """Compare a label's share of companies: the index of its probabilities hardly moves if the label is rare."""
    if found.over is None or reference.over is None:
        return []
    shares = [(side.over or 0) / side.companies for side in (reference, found)]
    ratio = max(shares) / max(min(shares), 1 / (2 * max(reference.companies, found.companies)))
    sides = [{"over": side.over or 0, "under": side.companies - (side.over or 0)} for side in (reference, found)]
    shift = compare(sides[0], reference.companies, sides[1], found.companies)
    if ratio <= config.share_ratio or shift.psi <= shift.chance:
        return []
    message = f"share {shares[1]:.1%} against {shares[0]:.1%} in {name}, limit {config.share_ratio:g} times"
    return [Violation(key, name, message, ratio / config.share_ratio)]


def sum_by_key(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Distribution]:
    """Add up rows of table ``drift`` of several runs."""
    sums: dict[Key, Distribution] = {}
    for row in rows:
        found = sums.setdefault(Key(row["population"], row["figure"], row["label"]), Distribution(0, {}))
        found.companies += row["companies"]
        found.counts = dict(Counter(found.counts) + Counter(row["counts"]))
        if row["share"] is not None:
            found.over = (found.over or 0) + round(row["share"] * row["companies"])
    return sums


def reference_runs(measured: Sequence[Mapping[str, Any]], config: DriftConfig) -> list[str]:
    """Choose the earlier runs that a run is compared with, given with the newest last.

    A run over a limit is left out while it counts for the signal: the next run is compared with those before the shift.
    Later it is included, so that a lasting change becomes normal.
    """
    n_settled = len(measured) - config.signal_within + 1
    chosen = [row["run_id"] for at, row in enumerate(measured) if at < n_settled or not row["drifted"]]
    return chosen[-config.reference_runs :]


def is_time_to_retrain(drifted: Sequence[bool], config: DriftConfig) -> bool:
    """Return whether enough of the last runs, given with the newest last, exceed a limit."""
    return sum(drifted[-config.signal_within :]) >= config.signal_runs
