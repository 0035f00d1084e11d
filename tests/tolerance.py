"""How far two float32 logits of one text may lie apart when only its batch differs."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_logits_close(found: Any, expected: Any) -> None:
    """Allow 5e-5 + 1e-5 * |logit|: sums of another order, as other batch shapes bring about."""
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=5e-5)
