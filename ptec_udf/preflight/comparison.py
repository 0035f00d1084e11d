"""How far scores may lie from those of each text alone, and how far they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.engine.device import Dtype
from ptec_udf.engine.result import ScoredText
from ptec_udf.model.calibration import is_assigned, probabilities
from ptec_udf.model.manifest import Manifest

# Sums of another order, as other shapes of batches bring about, differ by so much in float32.
LOGIT_TOLERANCE, LOGIT_SHARE = 5e-5, 1e-5
# bfloat16 keeps 8 bits of each value: a single cell may be far off, nearly all must not.
P999_TOLERANCE, WORST_TOLERANCE = 1e-2, 5e-2


@dataclass(frozen=True)
class Compared:
    """One arrangement beside each text alone, over all cells of text and label that have a logit in both.

    Attributes:
        name: of the arrangement.
        dtype: its arithmetic.
        rows: number of texts.
        worst_logit: greatest difference of two logits.
        p999_probability: difference of two probabilities that one cell in a thousand exceeds.
        worst_probability: the greatest one.
        changed_decisions: cells whose label is given in one of both only.
        changed_statuses: texts that have another status.
        passed: whether the tolerance of the arithmetic is kept, and every status.
    """

    name: str
    dtype: Dtype
    rows: int
    worst_logit: float
    p999_probability: float
    worst_probability: float
    changed_decisions: int
    changed_statuses: int
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def compare(
    name: str, dtype: Dtype, alone: Sequence[ScoredText], found: Sequence[ScoredText], manifest: Manifest
) -> Compared:
    """Hold an arrangement's scores against those of each text alone, both in the order of the texts."""
    expected, other = _logits(alone, found, manifest), _logits(found, alone, manifest)
    apart = np.abs(other.astype(np.float64) - expected)
    before, after = (probabilities(values, manifest.labels, manifest.curve) for values in (expected, other))
    moved = np.abs(after.astype(np.float64) - before)
    p999, worst = float(np.quantile(moved, 0.999)) if moved.size else 0.0, float(moved.max(initial=0))
    if dtype == "float32":
        is_close = bool((apart <= LOGIT_TOLERANCE + LOGIT_SHARE * np.abs(expected)).all())
    else:
        # Of fewer than a thousand cells one may be farther off, or a small sample would be held to its greatest.
        is_close = int((moved > P999_TOLERANCE).sum()) <= max(1, moved.size // 1000) and worst <= WORST_TOLERANCE
    statuses = sum(one.status != another.status for one, another in zip(alone, found, strict=True))
    decided = is_assigned(before, manifest.labels) != is_assigned(after, manifest.labels)
    return Compared(
        name=name,
        dtype=dtype,
        rows=len(found),
        worst_logit=float(apart.max(initial=0)),
        p999_probability=p999,
        worst_probability=worst,
        changed_decisions=int(decided.sum()),
        changed_statuses=statuses,
        passed=is_close and not statuses,
    )


def _logits(texts: Sequence[ScoredText], others: Sequence[ScoredText], manifest: Manifest) -> NDArray[np.float32]:
    """Stack the logits of texts that have some in both, *Shape:* ``(n_both, n_labels)``."""
    both = [
        text.logits
        for text, other in zip(texts, others, strict=True)
        if text.logits is not None and other.logits is not None
    ]
    return np.array(both, np.float32).reshape(len(both), len(manifest.labels))
