"""From logits of held-out rows to probabilities: Platt scaling.

Training weights positives by ``pos_weight``, which shifts a logit by its logarithm. Platt scaling first undoes that
shift: ``probability = sigmoid(a * (logit - log(pos_weight)) + b)``.

Source: Platt, "Probabilistic outputs for support vector machines", 1999, with its smoothed targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ptec_udf.errors import TrainingError
from ptec_udf.log import logger

_MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
_MAX_PROBABILITY = float(np.nextafter(np.float32(1), np.float32(0)))  # a threshold stays below 1 in float32 too


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising line from logit to log-odds for each label.

    ``scale`` (above 0) and ``offset`` have *Shape:* ``(n_labels,)``; logits ``(..., n_labels)``, or one for all labels.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) & np.isfinite(self.offset) & (self.scale > 0)).all():
            raise ValueError("scale must be finite and above 0, and offset finite, for every label")

    def log_odds(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logits to log-odds in float64."""
        return self.scale * np.asarray(logits, np.float64) + self.offset

    def probabilities(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logits to probabilities."""
        return np.asarray(expit(self.log_odds(logits)))

    def thresholds(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logit thresholds to probabilities that lie strictly between 0 and 1 in float32 too."""
        return np.clip(self.probabilities(logits), _MIN_PROBABILITY, _MAX_PROBABILITY)

    def logits(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map probabilities back to logits."""
        return np.asarray((logit(probabilities) - self.offset) / self.scale)


def check_cells(
    logits: NDArray[np.floating], targets: NDArray[np.generic]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return logits as float64 and targets as bool, *Shape:* ``(n_rows, n_labels)``, or raise a TrainingError."""
    raw, positive = np.asarray(logits, np.float64), np.asarray(targets).astype(bool)
    if raw.ndim != 2 or raw.shape != positive.shape:
        raise TrainingError(
            f"logits and targets need the same shape (n_rows, n_labels), were: {raw.shape}, {positive.shape}"
        )
    if n_broken := int((~np.isfinite(raw)).sum()):
        raise TrainingError(f"logits must be finite, {n_broken} of {raw.size} are not; lower the learning rates")
    return raw, positive


def fit_platt(
    logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> Calibration:
    """Fit one (a, b) for all labels by maximum likelihood over all cells; without a rising line, only undo pos_weight.

    Logits and targets have *Shape:* ``(n_rows, n_labels)``, the logarithms of positive weights ``(n_labels,)``. Raises
    as ``check_cells``.
    """
    raw, positive = check_cells(logits, targets)
    line = _fit_line((raw - log_pos_weight).ravel(), positive.ravel())
    if line is None:
        logger.warning("calibration only undoes pos_weight: on these rows the targets do not rise with the logits")
    slope, intercept = line or (1.0, 0.0)
    return Calibration(np.full(raw.shape[1], slope), intercept - slope * np.asarray(log_pos_weight, np.float64))


def _fit_line(values: NDArray[np.float64], hits: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Fit slope and intercept against Platt's smoothed targets, which keep both finite; None without a rising line."""
    n_positive = int(hits.sum())
    if n_positive in (0, hits.size) or np.ptp(values) == 0:
        return None
    soft = np.where(hits, (n_positive + 1) / (n_positive + 2), 1 / (hits.size - n_positive + 2))
    # A soft target has the same likelihood as the cell once as positive and once as negative, weighted.
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=200)
    cells, classes = np.concatenate([values, values])[:, None], np.repeat([1, 0], hits.size)
    model.fit(cells, classes, sample_weight=np.concatenate([soft, 1 - soft]))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    return (slope, intercept) if slope > 0 else None
