"""Distributions as counts by bin, and how far two of them are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Counts = dict[str, int]
"""Companies by bin: a category, or the lower edge of the bin as text; bins without companies may be missing."""

_LOGITS = np.arange(-8.0, 8.5, 0.5)  # equal steps of the logit: bins are as fine near 0 and 1 as between
PROBABILITY_EDGES: NDArray[np.float64] = np.concatenate([[0.0], 1 / (1 + np.exp(-_LOGITS))])
"""Lower edge of each bin of probabilities."""

PROBABILITY_BINS = [f"{edge:.6g}" for edge in PROBABILITY_EDGES]

_MAX_GROUPS = 10
_SMOOTHING = 0.5  # added to each group: an empty group has no logarithm
_CHANCE_EXPONENT = 8.0  # two samples of one population exceed ``Shift.chance`` with a probability of at most exp(-8)


class Shift(NamedTuple):
    """How far two distributions are apart.

    Attributes:
        psi: population stability index; 0: they are equal.
        chance: the index that two samples of one population, of these sizes, practically never exceed.
    """

    psi: float
    chance: float


def count_probabilities(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Count the probabilities of each label by bin, (n_rows, n_labels) to (n_labels, n_bins)."""
    n_labels, n_bins = probabilities.shape[1], len(PROBABILITY_EDGES)
    bins = np.searchsorted(PROBABILITY_EDGES[1:], probabilities, side="right")
    cells = (bins + np.arange(n_labels) * n_bins).ravel()
    return np.bincount(cells, minlength=n_labels * n_bins).reshape(n_labels, n_bins)


def probability_counts(counts: NDArray[np.int64]) -> Counts:
    """Name the bins of one label's counts, (n_bins,); empty bins are left out."""
    return {name: int(count) for name, count in zip(PROBABILITY_BINS, counts, strict=True) if count}


def compare(reference: Mapping[str, int], n_reference: int, current: Mapping[str, int], n_current: int) -> Shift:
    """Compare two distributions over at most ten groups; neither may be empty.

    Numbers are joined to groups of about equal mass in the reference, categories to the nine most frequent and the
    rest. The index of two samples is distributed like (1/n + 1/m) times chi-squared with one degree of freedom less
    than there are groups (Yurdakul 2018). ``chance`` bounds that by Laurent and Massart (2000).

    Args:
        reference: counts by bin.
        n_reference: companies of the reference. Where a company is in several bins, each counts once for chance.
        current: counts by bin.
        n_current: companies that were counted.
    """
    sizes = min(n_reference, sum(reference.values())), min(n_current, sum(current.values()))
    names = sorted({*reference, *current})
    counts = np.array([[side.get(name, 0) for name in names] for side in (reference, current)])
    groups = _by_mass(counts, names) if all(map(_is_number, names)) else _most_frequent(counts)
    degrees, x = groups.shape[1] - 1, _CHANCE_EXPONENT
    bound = degrees + 2 * math.sqrt(degrees * x) + 2 * x if degrees else 0.0
    return Shift(_index(groups), sum(1 / size for size in sizes) * bound)


def _by_mass(counts: NDArray[np.int64], names: list[str]) -> NDArray[np.int64]:
    """Join neighbouring numbers; a bin that has most of the mass stays alone, and so does each tail."""
    counts = counts[:, np.argsort([float(name) for name in names], kind="stable")]
    share = counts[0] / counts[0].sum()
    group = np.minimum(np.floor((np.cumsum(share) - share / 2) * _MAX_GROUPS), _MAX_GROUPS - 1)
    return np.add.reduceat(counts, np.flatnonzero(np.diff(group, prepend=-1)), axis=1)


def _most_frequent(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the categories that are most frequent in the reference, and join the others."""
    counts = counts[:, np.argsort(-counts[0], kind="stable")]
    first, rest = counts[:, : _MAX_GROUPS - 1], counts[:, _MAX_GROUPS - 1 :]
    return np.hstack([first, rest.sum(axis=1, keepdims=True)]) if rest.size else first


def _index(counts: NDArray[np.int64]) -> float:
    """Return the population stability index of two rows of counts, *Shape:* ``(2, n_groups)``."""
    smooth = counts + _SMOOTHING
    expected, found = smooth / smooth.sum(axis=1, keepdims=True)
    return float(((found - expected) * np.log(found / expected)).sum())


def _is_number(name: str) -> bool:
    return name.replace(".", "", 1).replace("e-", "", 1).isdigit()
