"""Distributions as counts by bin, and the population stability index of two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Counts = Mapping[str, int]
"""Companies by bin: a category, or the lower edge of the bin as text; bins without companies may be missing."""

MAX_LOGIT, N_STEPS = 8.0, 32  # equal steps of the logit: bins are as fine near 0 and 1 as between
_EDGES: NDArray[np.float64] = 1 / (1 + np.exp(-np.linspace(-MAX_LOGIT, MAX_LOGIT, N_STEPS + 1)))
PROBABILITY_BINS = ["0", *(f"{edge:.6g}" for edge in _EDGES)]
"""Lower edge of each bin of probabilities, as text."""

_MAX_GROUPS = 10
_SMOOTHING = 0.5  # added to each group: an empty group has no logarithm
_CHANCE_EXPONENT = 8.0  # two samples of one population exceed ``Shift.chance`` with a probability of at most exp(-8)


class Shift(NamedTuple):
    """Population stability index, and the largest index that chance explains for samples of these sizes."""

    psi: float
    chance: float


def count_probabilities(probabilities: NDArray[np.floating]) -> list[dict[str, int]]:
    """Count the probabilities of each label by bin, *Shape:* ``(n_rows, n_labels)``; empty bins are left out."""
    bins = np.searchsorted(_EDGES, probabilities, side="right")
    counts = [np.bincount(column, minlength=len(PROBABILITY_BINS)) for column in bins.T]
    return [{name: int(n) for name, n in zip(PROBABILITY_BINS, row, strict=True) if n} for row in counts]


def compare(reference: Counts, n_reference: int, current: Counts, n_current: int, *, is_numeric: bool = False) -> Shift:
    """Compare two distributions over at most ten groups; neither may be empty.

    Numeric bins are joined to groups of about equal mass. Of categories the nine most frequent are kept.
    The index of two samples is distributed like (1/n + 1/m) times chi-squared with one degree of freedom less than
    there are groups (Yurdakul 2018). ``chance`` bounds that by Laurent and Massart (2000).
    """
    names = sorted({*reference, *current}, key=float if is_numeric else lambda name: -reference.get(name, 0))
    counts = np.array([[side.get(name, 0) for name in names] for side in (reference, current)])
    starts = _starts_by_mass(counts[0]) if is_numeric else np.arange(min(len(names), _MAX_GROUPS))
    smooth = np.add.reduceat(counts, starts, axis=1) + _SMOOTHING
    expected, found = smooth / smooth.sum(axis=1, keepdims=True)
    psi = float(((found - expected) * np.log(found / expected)).sum())
    n_degrees, x = len(starts) - 1, _CHANCE_EXPONENT
    bound = n_degrees + 2 * math.sqrt(n_degrees * x) + 2 * x if n_degrees else 0.0
    sizes = min(n_reference, counts[0].sum()), min(n_current, counts[1].sum())  # a company may be in several bins
    return Shift(psi, float(sum(1 / size for size in sizes) * bound))


def _starts_by_mass(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first bin of each group; a bin with most of the mass stays alone, and so does each tail."""
    share = counts / counts.sum()
    group = np.minimum(np.floor((np.cumsum(share) - share / 2) * _MAX_GROUPS), _MAX_GROUPS - 1)
    return np.flatnonzero(np.diff(group, prepend=-1))
