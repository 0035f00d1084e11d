"""Judge the distributions of a run against its references, and decide when it is time to retrain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from ptec_udf.monitor.distribution import compare
from ptec_udf.section import Section

ALL, FRESH = "all", "fresh"
PROBABILITY, MIX, TOKENS, STATUS = "probability", "mix", "tokens", "status"
TRAINING, RUNS = "training", "runs"


class DriftConfig(Section):
    """When a run differs too much from the training extract or from earlier runs."""

    measure: bool = Field(True, description="measure drift after each run, from its scores")
    psi_training: float | None = Field(
        0.25,
        gt=0,
        description="largest population stability index of a label's probabilities, and of the label mix, against "
        "held-out rows of the training extract; null: not compared",
    )
    psi_runs: float = Field(0.25, gt=0, description="largest index of any figure against earlier runs")
    share_ratio: float = Field(2.0, gt=1, description="largest factor between two shares of a label's companies")
    reference_runs: int = Field(7, ge=1, description="number of earlier runs that psi_runs compares with")
    min_companies: int = Field(100, ge=1, description="fewest companies on both sides of a comparison")
    signal_runs: int = Field(2, ge=1, description="it is time to retrain when this many runs exceed a limit,")
    signal_within: int = Field(3, ge=1, validate_default=True, description="out of this many last runs")

    @field_validator("signal_within")
    @classmethod
    def _signal_is_possible(cls, within: int, info: ValidationInfo) -> int:
        if within < (runs := info.data.get("signal_runs", 1)):
            raise ValueError(f"must be at least signal_runs, which is {runs}")
        return within


class Key(NamedTuple):
    """Population, figure and, of figure ``probability``, the label of a distribution."""

    population: str
    figure: str
    label: str | None = None


@dataclass
class Distribution:
    """Companies by bin; of ``mix`` a company is in as many bins as it has labels.

    ``total`` is the sum of the figure. ``over`` is the number at or over the threshold, of ``probability`` alone.
    """

    companies: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    total: float | None = None
    over: int | None = None


def judge(
    measured: Mapping[Key, Distribution],
    training: Mapping[tuple[str, str | None], Distribution],
    earlier: Mapping[Key, Distribution],
    config: DriftConfig,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Compare a run's distributions, by figure and label, with held-out training rows and with earlier runs.

    Return rows of table ``drift`` without the columns of the run, and the violations, the largest excess first.
    """
    rows, violations = [], dict[str, float]()
    for key, found in measured.items():
        row: dict[str, Any] = key._asdict() | {"companies": found.companies, "counts": dict(found.counts)}
        row["mean"] = None if found.total is None else found.total / found.companies
        row["share"] = None if found.over is None else found.over / found.companies
        row["violated"] = []
        for name, reference, limit in (
            (TRAINING, training.get((key.figure, key.label)), config.psi_training),
            (RUNS, earlier.get(key), config.psi_runs),
        ):
            if reference is None or limit is None or not (reference.counts.total() and found.counts.total()):
                continue
            if min(reference.companies, found.companies) < config.min_companies:
                continue
            row[f"psi_{name}"], exceeded = _compare(key, name, reference, found, limit, config.share_ratio)
            row["violated"] += [name] if exceeded else []
            violations |= exceeded
        rows.append(row)
    return rows, sorted(violations, key=lambda message: -violations[message])


def _compare(
    key: Key, name: str, reference: Distribution, found: Distribution, limit: float, share_ratio: float
) -> tuple[float, dict[str, float]]:
    """Return the index, and a message for each exceeded limit with value / limit.

    A label's share of companies has its own limit: the index of its probabilities hardly moves if the label is rare.
    """
    numbers = key.figure in (PROBABILITY, TOKENS)
    shift = compare(reference.counts, reference.companies, found.counts, found.companies, is_numeric=numbers)
    limit = max(limit, shift.chance)
    described = f"{key.population} {key.figure}" + ("" if key.label is None else f" of {key.label!r}")
    exceeded = {}
    if shift.psi > limit:
        exceeded[f"{described}: PSI {shift.psi:.2f} against {name}, limit {limit:.2f}"] = shift.psi / limit
    if reference.over is None or found.over is None:
        return shift.psi, exceeded
    before, now = reference.over / reference.companies, found.over / found.companies
    ratio = max(before, now) / max(min(before, now), 1 / (2 * max(reference.companies, found.companies)))
    sides = [{"over": side.over or 0, "under": side.companies - (side.over or 0)} for side in (reference, found)]
    shares = compare(sides[0], reference.companies, sides[1], found.companies)
    if ratio > share_ratio and shares.psi > shares.chance:
        message = f"{described}: share {now:.1%} against {before:.1%} in {name}, limit {share_ratio:g} times"
        exceeded[message] = ratio / share_ratio
    return shift.psi, exceeded


def sum_by_key(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Distribution]:
    """Add up rows of table ``drift`` of several runs."""
    sums: dict[Key, Distribution] = {}
    for row in rows:
        found = sums.setdefault(Key(row["population"], row["figure"], row["label"]), Distribution())
        found.companies += row["companies"]
        found.counts.update(row["counts"])
        if row["share"] is not None:
            found.over = (found.over or 0) + round(row["share"] * row["companies"])
    return sums


def reference_runs(measured: Sequence[Mapping[str, Any]], config: DriftConfig) -> list[str]:
    """Choose the earlier runs that a run is compared with, from the measured runs, the newest last.

    A run over a limit is left out while it counts for the signal: the next run is compared with those before the shift.
    Later it is included, so that a lasting change becomes normal.
    """
    n_settled = len(measured) - config.signal_within + 1
    chosen = [row["run_id"] for at, row in enumerate(measured) if at < n_settled or not row["drifted"]]
    return chosen[-config.reference_runs :]


def is_time_to_retrain(drifted: Sequence[bool], config: DriftConfig) -> bool:
    """Return whether enough of the last runs, the newest last, exceed a limit."""
    return sum(drifted[-config.signal_within :]) >= config.signal_runs
