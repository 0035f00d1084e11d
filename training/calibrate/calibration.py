"""From logits of held-out rows to probabilities: Platt scaling, and an isotonic curve after it.

Training weights positives by ``pos_weight``, which shifts a logit by its logarithm. Platt scaling first undoes that
shift: ``probability = sigmoid(a * (logit - log(pos_weight)) + b)``.

Sources: Platt, "Probabilistic outputs for support vector machines", 1999, with its smoothed targets. Zadrozny and
Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from ptec_udf.errors import TrainingError
from ptec_udf.log import logger
from ptec_udf.model.calibration import apply_curve
from ptec_udf.model.manifest import Point

_MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
_MAX_PROBABILITY = float(np.nextafter(np.float32(1), np.float32(0)))  # a threshold stays below 1 in float32 too
_MIN_POSITIVES = 20  # positives of an isotonic bin: fewer make the ends of the curve noise


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising line for each label, and points of a curve after it for all labels; None: a straight line.

    ``scale`` (above 0) and ``offset`` have *Shape:* ``(n_labels,)``; logits ``(..., n_labels)``, or one for all labels.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    curve: list[Point] | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) & np.isfinite(self.offset) & (self.scale > 0)).all():
            raise ValueError("scale must be finite and above 0, and offset finite, for every label")

    def log_odds(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logits to log-odds in float64."""
        return np.asarray(apply_curve(self.scale * np.asarray(logits, np.float64) + self.offset, self.curve, np.clip))

    def probabilities(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logits to probabilities."""
        return np.asarray(expit(self.log_odds(logits)))

    def thresholds(self, logits: float | NDArray[np.floating]) -> NDArray[np.float64]:
        """Map logit thresholds to probabilities that lie strictly between 0 and 1 in float32 too."""
        return np.clip(self.probabilities(logits), _MIN_PROBABILITY, _MAX_PROBABILITY)

    def logits(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map probabilities back to logits."""
        inverse = None if self.curve is None else [(after, before) for before, after in self.curve]
        return np.asarray((apply_curve(logit(probabilities), inverse, np.clip) - self.offset) / self.scale)


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


def fit_isotonic(
    logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> Calibration:
    """Fit one curve for all labels after the Platt line; too few positives for two bins keep the line.

    The curve is linear between the means of the isotonic steps of bins with equal numbers of positives, so equal steps
    do not turn different logits into ties. Arguments and errors as in ``fit_platt``.
    """
    raw, positive = check_cells(logits, targets)
    line = fit_platt(raw, positive, log_pos_weight)
    probabilities, hits = expit(line.log_odds(raw)).ravel(), positive.ravel()
    order = np.argsort(-probabilities, kind="stable")
    probabilities, hits = probabilities[order], hits[order]
    n_bins = int(hits.sum()) // _MIN_POSITIVES
    bins = np.minimum((np.cumsum(hits) - hits) // _MIN_POSITIVES, max(n_bins - 1, 0))
    n, total, found = (np.bincount(bins, weights) for weights in (None, probabilities, hits))
    means = total / n
    steps = IsotonicRegression().fit_transform(means, (found + 1) / (n + 2), sample_weight=n)
    points = []
    for step in np.unique(steps):
        inside = steps == step
        points.append((float(logit(np.average(means[inside], weights=n[inside]))), float(logit(step))))
    is_curve = len(points) > 1 and bool(np.isfinite(points).all()) and bool((np.diff(points, axis=0) > 0).all())
    return replace(line, curve=points) if is_curve else line


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
