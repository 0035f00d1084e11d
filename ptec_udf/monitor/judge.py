"""What a night's distributions are held against, and when it is time to train again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ptec_udf.monitor.distribution import Counts, Shift, mix_shift, scale_shift, share_shift, shift
from ptec_udf.monitor.drift_config import DriftConfig

ALL, FRESH = "all", "fresh"
PROBABILITY, MIX, TOKENS, LABELS, LANGUAGE, STATUS = "probability", "mix", "tokens", "labels", "language", "status"
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
    """A figure of so many companies: how many are in each bin, its mean, and columns of ``drift`` that it alone has.

    A company is in one bin, but of ``mix`` in as many as it has labels.
    """

    companies: int
    counts: Counts
    mean: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Reference:
    """What a distribution is held against.

    Attributes:
        companies: how many there are.
        counts: companies by bin.
        over: companies at or over the label's threshold, where the figure is ``probability``.
    """

    companies: int
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
    training: Mapping[tuple[str, str | None], Reference],
    nights: Mapping[Key, Reference],
    config: DriftConfig,
) -> tuple[list[dict[str, Any]], list[Violation]]:
    """Hold a night's distributions against its references.

    Args:
        night: what was measured.
        training: figures of rows of the training extract that the model has not learned from, by figure and label.
        nights: sums over the nights before.
        config: the limits.

    Returns:
        Rows of table ``drift`` without the run's own columns, and what is over its limit, the farthest first.
    """
    rows: list[dict[str, Any]] = []
    violations: list[Violation] = []
    for key, found in night.items():
        row: dict[str, Any] = {"population": key.population, "figure": key.figure, "label": key.label, "violated": []}
        row |= {"companies": found.companies, "mean": found.mean, "counts": found.counts, **found.more}
        references = {TRAINING: training.get((key.figure, key.label)), NIGHTS: nights.get(key)}
        for name, reference in references.items():
            if reference is None or not _are_enough(reference, found, config):
                continue
            compared = _compare(key, reference, found, night)
            row |= {f"psi_{name}": compared.size, f"chance_{name}": compared.by_chance}
            limit = config.psi_training if name == TRAINING else config.psi_nights
            if name == TRAINING and limit is None:  # companies of the source are not to be like those of the extract
                continue
            over = [
                *_over_psi(key, name, compared, limit),
                *_over_share(key, name, reference, found, config.share_ratio),
                *_over_length(key, name, reference, found, config.length_ratio),
            ]
            violations += over
            row["violated"] += [name] if over else []
        rows.append(row)
    return rows, sorted(violations, key=lambda one: -one.excess)


def _are_enough(reference: Reference, found: Distribution, config: DriftConfig) -> bool:
    are_there = bool(sum(reference.counts.values()) and sum(found.counts.values()))
    return are_there and min(reference.companies, found.companies) >= config.least_companies


def _compare(key: Key, reference: Reference, found: Distribution, night: Mapping[Key, Distribution]) -> Shift:
    if key.figure != MIX:
        return shift(reference.counts, found.counts)
    by_number = {int(n): count for n, count in night[Key(key.population, LABELS)].counts.items()}
    squares, n_labels = (sum(n**power * count for n, count in by_number.items()) for power in (2, 1))
    return mix_shift(reference.counts, found.counts, squares / n_labels if n_labels else 1.0)


def _over_psi(key: Key, name: str, compared: Shift, limit: float | None) -> list[Violation]:
    """Say whether the index is over its limit, and over what chance makes of so few companies."""
    if limit is None or compared.size <= (most := max(limit, compared.by_chance)):
        return []
    return [Violation(key, name, f"PSI {compared.size:.2f} against {name}, limit {most:.2f}", compared.size / most)]


def _over_share(key: Key, name: str, reference: Reference, found: Distribution, ratio: float | None) -> list[Violation]:
    """Say whether a label's share has changed too many times; the index hardly sees it where the label is rare."""
    if ratio is None or reference.over is None or "share" not in found.more:
        return []
    now = (round(found.more["share"] * found.companies), found.companies)
    was = (round(reference.over), reference.companies)
    says = f"share {now[0] / now[1]:.1%} against {was[0] / was[1]:.1%} in {name}"
    return _over_ratio(key, name, says, share_shift(was, now), ratio)


def _over_length(
    key: Key, name: str, reference: Reference, found: Distribution, ratio: float | None
) -> list[Violation]:
    """Say whether texts are so many times as long or short; the index is coarse where companies are few."""
    if ratio is None or key.figure != TOKENS:
        return []
    compared = scale_shift(reference.counts, found.counts)
    says = f"texts are {math.exp(compared.size):.2f} times as long or short as in {name}"
    return _over_ratio(key, name, says, compared, ratio)


def _over_ratio(key: Key, name: str, says: str, compared: Shift, ratio: float) -> list[Violation]:
    """Say whether the logarithm of a ratio is over its limit, and over what chance explains."""
    if compared.size <= (most := max(math.log(ratio), compared.by_chance)):
        return []
    return [Violation(key, name, f"{says}, {ratio:g} times are allowed", compared.size / most)]


def sums_by_key(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Reference]:
    """Sum rows of table ``drift`` over nights."""
    sums: dict[Key, Reference] = {}
    for row in rows:
        found = sums.setdefault(Key(row["population"], row["figure"], row["label"]), Reference(0, {}))
        found.companies += row["companies"]
        found.counts = dict(Counter(found.counts) + Counter(row["counts"]))
        if row["share"] is not None:
            found.over = (found.over or 0.0) + row["share"] * row["companies"]
    return sums


def reference_runs(measured: Sequence[Mapping[str, Any]], config: DriftConfig) -> list[str]:
    """Choose the nights before that a night is compared with, of which the newest stands last.

    A night over a limit is none of them while it counts for the signal, so that the next night of a shift is held
    against what was before it; a change that lasts becomes what is usual after that.
    """
    recent = len(measured) - config.signal_within + 1
    usual = [row["run_id"] for at, row in enumerate(measured) if at < recent or not row["drifted"]]
    return usual[-config.reference_nights :]


def retrain(violates: Sequence[bool], config: DriftConfig) -> bool:
    """Say whether it is time to train again: enough of the last nights, of which the newest stands last, violate."""
    return sum(violates[-config.signal_within :]) >= config.signal_nights
