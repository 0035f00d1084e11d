"""What a night's distributions are held against, and when it is time to train again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ptec_udf.config import DriftConfig
from ptec_udf.drift.distribution import Counts, Shift, shift

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


@dataclass(frozen=True)
class Violation:
    """A distribution that is farther from a reference than it may be."""

    key: Key
    reference: str
    psi: float
    limit: float

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.key}: PSI {self.psi:.2f} against {self.reference}, limit {self.limit:.2f}"


def judge(
    night: Mapping[Key, Distribution],
    training: Mapping[str, Counts],
    nights: Mapping[Key, Counts],
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
        references = {TRAINING: training.get(key.label) if key.label is not None else None, NIGHTS: nights.get(key)}
        limits = {TRAINING: config.psi_training, NIGHTS: config.psi_nights}
        row: dict[str, Any] = {"population": key.population, "figure": key.figure, "label": key.label, "violated": []}
        row |= {"companies": sum(found.counts.values()), "mean": found.mean, "counts": found.counts, **found.more}
        for name, reference in references.items():
            compared, limit = _compared(reference, found.counts, config), limits[name]
            if compared is None:
                continue
            row |= {f"psi_{name}": compared.psi, f"chance_{name}": compared.by_chance}
            # Of few companies a part of the index is chance, and a limit without it would be broken every night.
            if limit is not None and compared.psi > limit + compared.by_chance:
                row["violated"].append(name)
                violations.append(Violation(key, name, compared.psi, limit + compared.by_chance))
        rows.append(row)
    return rows, sorted(violations, key=lambda one: one.limit - one.psi)


def _compared(reference: Counts | None, found: Counts, config: DriftConfig) -> Shift | None:
    """Compare, unless there is nothing to compare with or too few companies."""
    if reference is None or min(sum(reference.values()), sum(found.values())) < config.least_companies:
        return None
    return shift(reference, found)


def sums_by_key(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Counts]:
    """Sum rows of table ``drift`` over nights."""
    sums: dict[Key, Counter[str]] = {}
    for row in rows:
        sums.setdefault(Key(row["population"], row["figure"], row["label"]), Counter()).update(row["counts"])
    return {key: dict(counts) for key, counts in sums.items()}


def retrain(violates: Sequence[bool], config: DriftConfig) -> bool:
    """Say whether it is time to train again: enough of the last nights, of which the newest stands last, violate."""
    return sum(violates[-config.signal_within :]) >= config.signal_nights
