"""Distributions as counts by bin, and how far two of them are from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Counts = dict[str, int]
"""Companies by bin: a category, or the least value of the bin as a text; bins without companies may be missing."""

# Half a unit of the logit wide, so that bins are as fine near 0 and 1 as between.
_LOGITS = np.arange(-8.0, 8.5, 0.5)
PROBABILITY_EDGES: NDArray[np.float64] = np.concatenate([[0.0], 1 / (1 + np.exp(-_LOGITS))])
"""Least probability of each bin, from 0."""

PROBABILITY_BINS = [f"{edge:.6g}" for edge in PROBABILITY_EDGES]

_MOST_GROUPS = 10
_RAREST = 100
_CHANCE = 1e-6
"""That one comparison is over its limit although nothing has changed; a night makes some hundreds of them."""

# Stands in for a bin that one side does not have, whose share would have no logarithm.
_SMOOTHING = 0.5


@dataclass(frozen=True)
class Shift:
    """How far two distributions are from each other.

    Attributes:
        size: population stability index, or of two shares the logarithm of their ratio; 0: they are the same.
        by_chance: what two samples of these sizes from one population stay below, but for one of a million.
    """

    size: float
    by_chance: float


def count_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Count the probabilities of each label by bin, (n_rows, n_labels) to (n_labels, n_bins)."""
    n_labels, n_bins = probabilities.shape[1], len(PROBABILITY_EDGES)
    bins = np.searchsorted(PROBABILITY_EDGES[1:], probabilities, side="right")
    cells = (bins + np.arange(n_labels) * n_bins).ravel()
    return np.bincount(cells, minlength=n_labels * n_bins).reshape(n_labels, n_bins)


def probability_counts(counts: NDArray[np.int64]) -> Counts:
    """Name the bins of one label's counts, (n_bins,); those without companies are left out."""
    return {name: int(count) for name, count in zip(PROBABILITY_BINS, counts, strict=True) if count}


def shift(reference: Mapping[str, int], current: Mapping[str, int]) -> Shift:
    """Compare two distributions, neither of which is empty.

    The index is that of credit scoring, with bins of numbers joined to at most ten of about equal mass in the
    reference. From one population it is distributed like (1/n + 1/m) times chi-squared with one degree less than there
    are bins (Yurdakul, Statistical Properties of Population Stability Index, 2018).
    """
    expected, found = _joined(reference, current)
    by_chance = (1 / sum(expected) + 1 / sum(found)) * _chi_squared(len(expected) - 1)
    return Shift(_index(expected, found), by_chance)


def share_shift(reference: tuple[int, int], current: tuple[int, int]) -> Shift:
    """Compare two shares, each given as a part and its whole, by the logarithm of their ratio.

    Chance is by the normal approximation of the logarithm of a ratio of two Poisson counts, with half a company more on
    each side for shares of nothing.
    """
    parts = [part + _SMOOTHING for part, _ in (reference, current)]
    shares = [part / (whole + _SMOOTHING) for part, (_, whole) in zip(parts, (reference, current), strict=True)]
    by_chance = NormalDist().inv_cdf(1 - _CHANCE) * math.sqrt(sum(1 / part for part in parts))
    return Shift(abs(math.log(shares[1] / shares[0])), by_chance)


def mix_shift(reference: Mapping[str, int], current: Mapping[str, int], together: float) -> Shift:
    """Compare how labels are mixed, neither side without a label, by the index of ``shift``.

    Labels that are less than one in a hundred of the reference are joined, since the index is at its worst with them.
    Labels of one company are no independent draws. The most that chance does is done where they come in fixed bundles:
    then there are fewer draws of fewer kinds, by how many a bundle holds (cf. Rao and Scott, 1981, on chi-squared of
    clustered counts).

    Args:
        reference: companies by label.
        current: the same of the other side.
        together: how many labels a company has, seen from a label: from 1.
    """
    n_reference = sum(reference.values())
    frequent = [name for name, count in sorted(reference.items()) if count * _RAREST >= n_reference]
    sides = [[side.get(name, 0) for name in frequent] for side in (reference, current)]
    totals = n_reference, sum(current.values())
    expected, found = ([*side, total - sum(side)] for side, total in zip(sides, totals, strict=True))
    by_chance = sum(together / total for total in totals) * _chi_squared((len(frequent) + 1) / together)
    return Shift(_index(expected, found), by_chance)


def scale_shift(reference: Mapping[str, int], current: Mapping[str, int]) -> Shift:
    """Compare two geometric means of numbers that are not negative, by the logarithm of their ratio.

    A number counts as the least value of its bin, 0 as 1. Chance is by the normal approximation.
    """
    sides = [_logarithms(counts) for counts in (reference, current)]
    by_chance = NormalDist().inv_cdf(1 - _CHANCE) * math.sqrt(sum(variance for _, variance in sides))
    return Shift(abs(sides[1][0] - sides[0][0]), by_chance)


def _logarithms(counts: Mapping[str, int]) -> tuple[float, float]:
    """Return the mean logarithm and the variance of that mean."""
    values = np.log(np.maximum([float(name) for name in counts], 1.0))
    weights = np.array(list(counts.values()), np.float64)
    mean = float(np.average(values, weights=weights))
    return mean, float(np.average((values - mean) ** 2, weights=weights) / weights.sum())


def _joined(reference: Mapping[str, int], current: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """Lay both out over the same bins."""
    names = sorted({*reference, *current})
    if not all(map(_is_number, names)):
        return [reference.get(name, 0) for name in names], [current.get(name, 0) for name in names]
    names.sort(key=float)
    both = np.array([[side.get(name, 0) for name in names] for side in (reference, current)])
    share = both[0] / both[0].sum()
    # By the middle of its mass: a bin that holds most of it stays alone, and so does the tail beside it.
    group = np.minimum(np.floor((np.cumsum(share) - share / 2) * _MOST_GROUPS), _MOST_GROUPS - 1)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    expected, found = np.add.reduceat(both, starts, axis=1).tolist()
    return expected, found


def _index(reference: Sequence[int], current: Sequence[int]) -> float:
    """Return the population stability index of counts of the same groups."""
    groups = np.array([reference, current], np.float64) + _SMOOTHING
    expected, found = groups / groups.sum(axis=1, keepdims=True)
    return float(((found - expected) * np.log(found / expected)).sum())


def _is_number(name: str) -> bool:
    return name.replace(".", "", 1).replace("e-", "", 1).isdigit()


def _chi_squared(degrees: float) -> float:
    """Return what chi-squared stays below but for ``_CHANCE`` (Wilson and Hilferty, 1931)."""
    if degrees == 0:
        return 0.0
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + NormalDist().inv_cdf(1 - _CHANCE) * spread**0.5) ** 3
