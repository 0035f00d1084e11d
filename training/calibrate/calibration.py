"""A fitted calibration: one rising line per label, and an optional curve shared by all labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from ptec_udf.errors import TrainingError
from ptec_udf.model.calibration import apply_curve
from ptec_udf.model.manifest import Point

_MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
_MAX_PROBABILITY = float(np.nextafter(np.float32(1), np.float32(0)))  # a threshold stays below 1 in float32 too


@dataclass(frozen=True, eq=False)
class Calibration:
    """Maps logits to probabilities and keeps the order of each label.

    Attributes:
        scale: slope per label, above 0, *Shape:* ``(n_labels,)``.
        offset: intercept per label, *Shape:* ``(n_labels,)``.
        curve: points that the log-odds of all labels pass through after the line; None: a straight line.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    curve: list[Point] | None = None

    def __post_init__(self) -> None:
        """Refuse a line that is not finite or does not rise."""
        if not (np.isfinite(self.scale) & np.isfinite(self.offset) & (self.scale > 0)).all():
            raise ValueError("scale must be finite and above 0, and offset finite, for every label")

    def log_odds(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logits, *Shape:* ``(..., n_labels)`` or one number for all labels, to log-odds in float64."""
        return np.asarray(apply_curve(self.scale * np.asarray(logits, np.float64) + self.offset, self.curve, np.clip))

    def probabilities(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logits to probabilities; shapes as in ``log_odds``."""
        return np.asarray(expit(self.log_odds(logits)))

    def thresholds(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logit thresholds to probabilities that lie strictly between 0 and 1 in float32 too."""
        return np.clip(self.probabilities(logits), _MIN_PROBABILITY, _MAX_PROBABILITY)

    def logits(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map probabilities, *Shape:* ``(..., n_labels)``, back to logits."""
        inverse = None if self.curve is None else [(after, before) for before, after in self.curve]
        return np.asarray((apply_curve(logit(probabilities), inverse, np.clip) - self.offset) / self.scale)

    def select(self, positions: Sequence[int]) -> Calibration:
        """Return the calibration of some labels, by position."""
        return replace(self, scale=self.scale[positions], offset=self.offset[positions])


def check_cells(
    logits: NDArray[np.floating], targets: NDArray[np.generic]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return logits as float64 and targets as bool, both *Shape:* ``(n_rows, n_labels)``.

    Raises:
        TrainingError: when the shapes differ or a logit is not finite.
    """
    raw, positive = np.asarray(logits, np.float64), np.asarray(targets).astype(bool)
    if raw.ndim != 2 or raw.shape != positive.shape:
        raise TrainingError(
            f"logits and targets need the same shape (n_rows, n_labels), were: {raw.shape}, {positive.shape}"
        )
    if n_broken := int((~np.isfinite(raw)).sum()):
        raise TrainingError(f"logits must be finite, {n_broken} of {raw.size} are not; lower the learning rates")
    return raw, positive
