"""Platt scaling, pooled over all labels or fitted per label with shrinkage.

Training weights positives by ``pos_weight``, which shifts a logit by its logarithm. Platt scaling first undoes that
shift: ``probability = sigmoid(a * (logit - log(pos_weight)) + b)``.

Source: Platt, "Probabilistic outputs for support vector machines", 1999, with its smoothed targets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from ptec_udf.log import logger
from training.calibrate.calibration import Calibration, check_cells

SHRINKAGE = 10.0
"""A label with this many positives gets halfway from the shared value to its own; fixed, see docs/evidence.md."""


def fit_platt(
    logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> Calibration:
    """Fit one (a, b) for all labels by maximum likelihood over all cells.

    Where no rising line can be fitted, log the reason and only undo ``pos_weight``.

    Args:
        logits: raw logits of held-out rows, *Shape:* ``(n_rows, n_labels)``.
        targets: 0 or 1, same shape.
        log_pos_weight: natural logarithm of the positive weight used in training, *Shape:* ``(n_labels,)``.

    Raises:
        TrainingError: when shapes differ or a logit is not finite.
    """
    raw, positive = check_cells(logits, targets)
    line = _fit_line((raw - log_pos_weight).ravel(), positive.ravel())
    if line is None:
        logger.warning("calibration only undoes pos_weight: these rows give no rising line from logits to targets")
    slope, intercept = line or (1.0, 0.0)
    shift = np.broadcast_to(np.asarray(log_pos_weight, np.float64), (raw.shape[1],))
    return Calibration(np.full(raw.shape[1], slope), intercept - slope * shift)


def fit_platt_per_label(
    logits: NDArray[np.floating], targets: NDArray[np.generic], log_pos_weight: NDArray[np.floating]
) -> Calibration:
    """Fit each label's own line and shrink it towards the pooled one by its number of positives.

    The result is the weighted mean of both lines' log-odds, with weight n / (n + ``SHRINKAGE``) on the label's own.
    Arguments and errors as in ``fit_platt``.
    """
    raw, positive = check_cells(logits, targets)
    pooled = fit_platt(raw, positive, log_pos_weight)
    scale, offset = pooled.scale.copy(), pooled.offset.copy()
    for label, weight in enumerate(shrinkage_weights(positive)):
        line = _fit_line(raw[:, label], positive[:, label])
        if line is not None:
            scale[label] += weight * (line[0] - scale[label])
            offset[label] += weight * (line[1] - offset[label])
    return Calibration(scale, offset)


def shrinkage_weights(positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how much each label's own value counts against the shared one, *Shape:* ``(n_labels,)``."""
    counts = positive.sum(axis=0)
    return counts / (counts + SHRINKAGE)


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
