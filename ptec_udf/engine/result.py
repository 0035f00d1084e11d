"""What a text came to; known where nothing is scored too, so that no language model's library is imported for it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ptec_udf.text.template import is_cut

OK, TRUNCATED, EMPTY, ERROR = "ok", "truncated", "empty", "error"
WORKER_DIED = "the worker process died while scoring this text alone"
TEXT_ERRORS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass
class ScoredText:
    """What one text came to; ``logits`` is None unless the status is ok or truncated.

    ``batch_positions`` counts the positions that the row took in its batch, padding included.
    """

    status: str = EMPTY
    n_tokens: int = 0
    n_truncated: int = 0
    error: str | None = None
    logits: np.ndarray | None = field(default=None, repr=False)
    batch_positions: int = 0


def make_result(text: str, logits: np.ndarray, *, n_tokens: int, n_truncated: int, batch_positions: int) -> ScoredText:
    """Give one text its status; for the other arguments see ``ScoredText``."""
    result = ScoredText(OK, n_tokens, n_truncated, None, logits, batch_positions)
    if not np.isfinite(logits).all():
        result.status, result.error, result.logits = ERROR, "logits are not finite", None
    elif n_truncated or is_cut(text):
        result.status = TRUNCATED
    return result


def mark_failed(result: ScoredText, error: Exception) -> None:
    """Mark a row that failed alone; the error's message may hold the text."""
    result.status, result.error = ERROR, f"scoring this text alone raised {type(error).__name__}"
