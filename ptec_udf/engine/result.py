"""The result of scoring one text."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ptec_udf.text.template import is_cut

OK, TRUNCATED, EMPTY, ERROR = "ok", "truncated", "empty", "error"

WORKER_DIED = "the worker process died while scoring this text alone"
"""``error`` of a text that ends the process that scores it."""

TEXT_ERRORS = (ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""Exceptions that one text may cause; any other one ends the task."""


@dataclass
class ScoredText:
    """The result of one text.

    Attributes:
        n_tokens: tokens that were read, special tokens included.
        n_truncated: tokens that were cut; an estimate for very long texts (see ``encoder.py``).
        error: what failed; never contains the text.
        logits: *Shape:* ``(n_labels,)``; None unless the status is ok or truncated.
        batch_positions: positions of the row in its batch, padding included.
    """

    status: str = EMPTY
    n_tokens: int = 0
    n_truncated: int = 0
    error: str | None = None
    logits: NDArray[np.float32] | None = field(default=None, repr=False)
    batch_positions: int = 0

    def set_logits(self, text: str, logits: NDArray[np.float32]) -> None:
        """Set logits and status of a text whose tokens are counted."""
        if not np.isfinite(logits).all():
            self.status, self.error = ERROR, "logits are not finite"
            return
        self.logits = logits
        self.status = TRUNCATED if self.n_truncated or is_cut(text) else OK

    def set_failed(self, error: Exception) -> None:
        """Set status ``error``; the exception's message is left out, since it may contain the text."""
        self.status, self.error = ERROR, f"scoring this text alone raised {type(error).__name__}"
