"""How far two float32 logits or probabilities of one text may lie apart when only its batch differs."""

from __future__ import annotations

from typing import Any

import numpy as np

_TOLERANCE = {"rtol": 1e-5, "atol": 5e-5}


def assert_logits_close(found: Any, expected: Any) -> None:
    """Allow 5e-5 + 1e-5 * |logit|: sums of another order, as other batch shapes bring about."""
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), **_TOLERANCE)


def is_equal(found: Any, expected: Any) -> bool:
    """Return whether nested rows are equal, floats within the tolerance."""
    if isinstance(found, float) and isinstance(expected, float):
        return bool(np.isclose(found, expected, **_TOLERANCE))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(is_equal(found[key], expected[key]) for key in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(is_equal, found, expected))
    return bool(found == expected)
