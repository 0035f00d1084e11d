"""How far numbers of one text may differ when only its batch differs, and how far two values do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def assert_logits_close(found: Any, expected: Any) -> None:
    """Allow 5e-5 + 1e-5 * |logit|: sums of another order, as other batch shapes bring about."""
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=5e-5)


def distance(one: Any, other: Any) -> float:
    """Return the largest difference of numbers in two nested values; infinity if anything but floats differs."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((distance(one[name], other[name]) for name in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(distance, one, other), default=0.0)
    return 0.0 if one == other else math.inf
