"""From raw logits to probabilities, by one line that all labels share; ``shrunk.py`` may depart from it.

Training weights positives by ``pos_weight``, which shifts a logit by its logarithm. Every
calibrator takes that shift away before anything is called a probability::

    z' = a * (z - log(pos_weight)) + b        probability = sigmoid(z')
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ptec_udf.errors import TrainingError
from ptec_udf.model.calibration import bend
from ptec_udf.model.manifest import Point

log = logging.getLogger(__name__)

SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.nextafter(np.float32(1), np.float32(0)))
"""Least and greatest threshold: open (0, 1) still holds after a cast to float32."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising straight line per label from logit to log-odds, bent where there is a curve; a label's order stays.

    Attributes:
        scale: slope per label, over 0, shape (n_labels,).
        offset: intercept per label, shape (n_labels,).
        curve: points that all labels' log-odds go through after the line, see ``bend``; None: they go through none.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    curve: list[Point] | None = None

    def __post_init__(self) -> None:
        if self.scale.ndim != 1 or self.scale.shape != self.offset.shape:
            raise ValueError(
                f"scale and offset need the same shape (n_labels,), were: {self.scale.shape}, {self.offset.shape}"
            )
        if not (np.isfinite(self.scale) & np.isfinite(self.offset) & (self.scale > 0)).all():
            raise ValueError("scale must be finite and over 0 and offset finite for every label")

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Turn logits (n_rows, n_labels) into probabilities of the same shape, in float64."""
        return np.asarray(expit(self.log_odds(logits)))

    def log_odds(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Turn logits (..., n_labels), or one for all, into log-odds, in float64."""
        return np.asarray(bend(self.scale * np.asarray(logits, np.float64) + self.offset, self.curve, np.clip))

    def logits(self, log_odds: NDArray[np.floating]) -> NDArray[np.float64]:
        """Turn log-odds (..., n_labels) back into logits."""
        back = None if self.curve is None else [(to, origin) for origin, to in self.curve]
        straight = bend(log_odds, back, np.clip)
        return np.asarray((straight - self.offset) / self.scale)

    def of_labels(self, at: Sequence[int]) -> Calibration:
        """Return that of some labels, by position."""
        return replace(self, scale=self.scale[at], offset=self.offset[at])


def fit_none(
    logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> Calibration:
    """Only take the shift by ``pos_weight`` away; arguments as in ``fit_platt``."""
    return _shared(1.0, 0.0, np.shape(logits)[1], log_pos_weight)


def fit_platt(
    logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> Calibration:
    """Fit one Platt scaling (a, b) for all labels, by maximum likelihood over all cells.

    Platt, "Probabilistic outputs for support vector machines", 1999, with its smoothed targets.

    Where that is impossible (no positives, no negatives, equal logits, a falling line), the
    reason is logged and only the shift by ``pos_weight`` is taken away.

    Args:
        logits: raw logits of held-out rows, (n_rows, n_labels).
        targets: 0 or 1, (n_rows, n_labels).
        log_pos_weight: natural logarithm of the positive weight that training used, (n_labels,).

    Raises:
        TrainingError: when shapes differ or a logit is not finite.
    """
    return _fit_shared(logits, targets, log_pos_weight, with_intercept=True)


def fit_temperature(
    logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> Calibration:
    """Fit one scale for all labels, the inverse of a temperature, and no offset but what undoes ``pos_weight``.

    It makes probabilities more or less extreme and leaves one half where it is. Source: Guo et al., "On calibration
    of modern neural networks", ICML 2017. Arguments, fallback and errors as in ``fit_platt``.
    """
    return _fit_shared(logits, targets, log_pos_weight, with_intercept=False)


def threshold_probabilities(threshold: float | NDArray[np.floating], calibration: Calibration) -> NDArray[np.float64]:
    """Say one raw-logit threshold, or each label's, as probabilities, (n_labels,), open (0, 1) in float32 too."""
    return np.clip(expit(calibration.log_odds(threshold)), SMALLEST, LARGEST)


def threshold_logits(thresholds: NDArray[np.floating], calibration: Calibration) -> NDArray[np.float64]:
    """Return on raw logits what thresholds are as probabilities, both *Shape:* ``(n_labels,)``."""
    return calibration.logits(logit(thresholds))


def checked_cells(
    logits: NDArray[np.floating], targets: NDArray[np.generic]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give logits as float64 and targets as bool, both (n_rows, n_labels).

    Raises:
        TrainingError: when shapes differ or a logit is not finite.
    """
    raw, positive = np.asarray(logits, np.float64), np.asarray(targets).astype(bool)
    if raw.ndim != 2 or raw.shape != positive.shape:
        raise TrainingError(
            f"logits and targets need the same shape (n_rows, n_labels), were: {raw.shape}, {positive.shape}"
        )
    broken = int((~np.isfinite(raw)).sum())
    if broken:
        raise TrainingError(f"logits must be finite, {broken} of {raw.size} are not; lower the learning rates")
    return raw, positive


def _fit_shared(
    logits: NDArray[np.floating],
    targets: NDArray[np.generic],
    log_pos_weight: NDArray[np.floating],
    *,
    with_intercept: bool,
) -> Calibration:
    """Fit one line for all labels, through the origin where it has no intercept."""
    raw, positive = checked_cells(logits, targets)
    shifted, hits = (raw - log_pos_weight).ravel(), positive.ravel()
    slope, intercept = 1.0, 0.0
    reason = _why_degenerate(shifted, hits)
    if reason is None:
        slope, intercept = _line(shifted, hits, with_intercept)
        if not slope > 0:
            reason = f"the fitted slope {slope:.4g} is not over 0, so logits do not rise with the targets"
            slope, intercept = 1.0, 0.0
    if reason is not None:
        log.warning("calibration left out, only pos_weight is undone: %s", reason)
    return _shared(slope, intercept, raw.shape[1], log_pos_weight)


def _shared(slope: float, intercept: float, n_labels: int, log_pos_weight: NDArray[np.floating]) -> Calibration:
    """Write one (a, b) as a line per label on the raw logit."""
    shift = np.broadcast_to(np.asarray(log_pos_weight, np.float64), (n_labels,))
    return Calibration(np.full(n_labels, slope), intercept - slope * shift)


def _why_degenerate(values: NDArray[np.float64], hits: NDArray[np.bool_]) -> str | None:
    """Say why no line can be fitted, or None."""
    if not hits.any():
        return f"none of {hits.size} cells is positive"
    if hits.all():
        return f"none of {hits.size} cells is negative"
    if np.ptp(values) == 0:
        return f"all {hits.size} logits are equal"
    return None


def _line(values: NDArray[np.float64], hits: NDArray[np.bool_], with_intercept: bool) -> tuple[float, float]:
    """Fit slope and intercept against Platt's smoothed targets, which keep both finite."""
    n_positive = int(hits.sum())
    soft = np.where(hits, (n_positive + 1) / (n_positive + 2), 1 / (hits.size - n_positive + 2))
    # A soft target is the same likelihood as the cell once as positive and once as negative, weighted.
    features = np.concatenate([values, values])[:, None]
    classes = np.repeat([1, 0], hits.size)
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=200, fit_intercept=with_intercept)
    model.fit(features, classes, sample_weight=np.concatenate([soft, 1 - soft]))
    return float(model.coef_[0, 0]), float(np.ravel(model.intercept_)[0])
