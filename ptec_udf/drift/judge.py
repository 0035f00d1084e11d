"""What a night's distributions are held against, and when it is time to train again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ptec_udf.drift.config import DriftConfig
from ptec_udf.drift.distribution import Counts, Shift, share_shift, shift

ALL, FRESH = "all", "fresh"
PROBABILITY, TOKENS, LABELS, LANGUAGE, STATUS = "probability", "tokens", "labels", "language", "status"
TRAINING, NIGHTS = "training", "nights"


@dataclass(frozen=True)
class Key:
    """What a distribution is of: a population, a figure, and a label where the figure is ``probability``."""

    population: str
    figure: str
    label: str | None = None

    def __str__(self) -> str:
        """Say it in a message."""
        return f"{self.population} {self.figure}" + (f" of {self.label!r}" if self.label is not None else "")


@dataclass(frozen=True)
class Distribution:
    """A figure's counts by bin, its mean, and the columns of table ``drift`` that it alone has."""

    counts: Counts
    mean: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Reference:
    """What a distribution is held against.

    Attributes:
        counts: companies by bin.
        over: companies at or over the label's threshold, where the figure is ``probability``.
    """

    counts: Counts
    over: float | None = None


@dataclass(frozen=True)
class Violation:
    """A distribution that is farther from a reference than it may be, and how many times as far."""

    key: Key
    reference: str
    says: str
    excess: float

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.key}: {self.says}"


def judge(
    night: Mapping[Key, Distribution],
    training: Mapping[str, Reference],
    nights: Mapping[Key, Reference],
    config: DriftConfig,
) -> tuple[list[dict[str, Any]], list[Violation]]:
    """Hold a night's distributions against its references.

    Args:
        night: what was measured.
        training: probabilities of rows of the training extract that the model has not learned from, by label.
        nights: sums over the nights before.
        config: the limits.

    Returns:
        Rows of table ``drift`` without the run's own columns, and what is over its limit, the farthest first.
    """
    rows: list[dict[str, Any]] = []
    violations: list[Violation] = []
    for key, found in night.items():
        row: dict[str, Any] = {"population": key.population, "figure": key.figure, "label": key.label, "violated": []}
        row |= {"companies": sum(found.counts.values()), "mean": found.mean, "counts": found.counts, **found.more}
        references = {TRAINING: training.get(key.label) if key.label is not None else None, NIGHTS: nights.get(key)}
        for name, reference in references.items():
            if reference is None or not _are_enough(reference.counts, found.counts, config):
                continue
            compared = shift(reference.counts, found.counts)
            row |= {f"psi_{name}": compared.size, f"chance_{name}": compared.by_chance}
            limit = config.psi_training if name == TRAINING else config.psi_nights
            over = [*_over_psi(key, name, compared, limit), *_over_ratio(key, name, reference, found, config)]
            violations += over
            row["violated"] += [name] if over else []
        rows.append(row)
    return rows, sorted(violations, key=lambda one: -one.excess)


def _are_enough(reference: Counts, found: Counts, config: DriftConfig) -> bool:
    return min(sum(reference.values()), sum(found.values())) >= config.least_companies


def _over_psi(key: Key, name: str, compared: Shift, limit: float | None) -> list[Violation]:
    """Say whether the index is over its limit.

    Of few companies a part of the index is chance, and a limit without it would be broken every night.
    """
    if limit is None or compared.size <= (most := limit + compared.by_chance):
        return []
    return [Violation(key, name, f"PSI {compared.size:.2f} against {name}, limit {most:.2f}", compared.size / most)]


def _over_ratio(key: Key, name: str, reference: Reference, found: Distribution, config: DriftConfig) -> list[Violation]:
    """Say whether a label's share has changed too many times; the index hardly sees it where the label is rare."""
    if config.share_ratio is None or reference.over is None or "share" not in found.more:
        return []
    whole = sum(found.counts.values())
    now = (round(found.more["share"] * whole), whole)
    was = (round(reference.over), sum(reference.counts.values()))
    compared = share_shift(was, now)
    if compared.size <= (most := math.log(config.share_ratio) + compared.by_chance):
        return []
    says = (
        f"share {now[0] / now[1]:.1%} against {was[0] / was[1]:.1%} in {name}, {config.share_ratio:g} times are allowed"
    )
    return [Violation(key, name, says, compared.size / most)]


def sums_by_key(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Reference]:
    """Sum rows of table ``drift`` over nights."""
    counts: dict[Key, Counter[str]] = {}
    over: dict[Key, float] = {}
    for row in rows:
        key = Key(row["population"], row["figure"], row["label"])
        counts.setdefault(key, Counter()).update(row["counts"])
        if row["share"] is not None:
            over[key] = over.get(key, 0.0) + row["share"] * row["companies"]
    return {key: Reference(dict(of_key), over.get(key)) for key, of_key in counts.items()}


def retrain(violates: Sequence[bool], config: DriftConfig) -> bool:
    """Say whether it is time to train again: enough of the last nights, of which the newest stands last, violate."""
    return sum(violates[-config.signal_within :]) >= config.signal_nights
