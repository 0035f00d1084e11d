"""The curve of an isotonic calibration: from log-odds to log-odds, in NumPy and in Spark alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

Point = tuple[float, float]


def is_rising(points: Sequence[Point]) -> bool:
    """Whether each point is right of the one before, and above it."""
    return all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(points))


def bend(log_odds: Any, points: Sequence[Point] | None, clamp: Callable[[Any, float, float], Any]) -> Any:
    """Put log-odds through the straight pieces between points; beyond the ends they move by as much as the end does.

    Args:
        log_odds: an array or a column.
        points: from and to, rising in both; None: nothing is changed.
        clamp: of such values: a value, or the nearer of two ends where it is beyond them.
    """
    if points is None:
        return log_odds
    (least, start), (greatest, _) = points[0], points[-1]
    bent = log_odds - clamp(log_odds, least, greatest) + start
    for (left, lower), (right, upper) in pairwise(points):
        bent = bent + (clamp(log_odds, left, right) - left) * ((upper - lower) / (right - left))
    return bent
