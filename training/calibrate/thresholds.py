"""From raw logits to decisions: one threshold that all labels share, and thresholds of their own, shrunk to it.

A threshold belongs on the raw logit, where the weight of positives has already lifted labels with few of them.
A label's own best threshold is noise where it has few positives, and chosen naively for every label it loses
more than it gains; so each is drawn towards the common one, the more the fewer positives it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.errors import TrainingError
from training.calibrate.calibrate import checked_cells
from training.calibrate.cross_fit import STRENGTHS, choose_strength
from training.evaluate.metrics import macro_f1

PLATEAU = 0.002
"""Thresholds whose macro-F1 is this close to the best count as equally good."""


def common_threshold(logits: NDArray[np.floating], targets: NDArray[np.generic]) -> float:
    """Find the one raw-logit threshold that maximises macro-F1 over the labels that occur.

    Lowering a threshold helps only where it takes in a positive, so the candidates lie just
    below the positives. A small dev set makes the curve jagged: the answer is the middle of the
    run of candidates around the best whose macro-F1 is within ``PLATEAU`` of it.

    Args:
        logits: raw logits, (n_rows, n_labels).
        targets: 0 or 1, (n_rows, n_labels).

    Returns:
        The threshold; a label is predicted where its logit is at or over it.

    Raises:
        TrainingError: when shapes differ, a logit is not finite, or no target is positive.
    """
    raw, positive = checked_cells(logits, targets)
    if not positive.any():
        raise TrainingError(
            f"a threshold needs at least one positive target, found none among {raw.size} cells; "
            "check that the rows carry labels"
        )
    levels, macro_f1 = _macro_f1_curve(raw, positive)
    below = np.append(levels[1:], levels[-1] - 1.0)
    useful = np.isin(levels, raw[positive])
    candidates, quality = ((levels + below) / 2)[useful], macro_f1[useful]
    best = int(np.argmax(quality))
    poor = np.flatnonzero(quality < quality[best] - PLATEAU)
    first = int(max(poor[poor < best], default=-1)) + 1
    last = int(min(poor[poor > best], default=len(quality))) - 1
    return float(candidates[(first + last) // 2])


def fit_thresholds(
    logits: NDArray[np.floating], targets: NDArray[np.generic]
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Give each label a threshold; cross-fitting decides how far it may be from the common one.

    Args:
        logits: raw logits, (n_rows, n_labels).
        targets: 0 or 1, (n_rows, n_labels).

    Returns:
        Thresholds, (n_labels,), and the report of ``choose_strength`` on macro-F1.

    Raises:
        TrainingError: as ``common_threshold``.
    """
    raw, positive = checked_cells(logits, targets)

    def fit_and_judge(fitted: NDArray[np.intp], judged: NDArray[np.intp]) -> dict[float, NDArray[np.bool_]]:
        found = _shrunk(raw[fitted], positive[fitted], STRENGTHS)
        return {strength: raw[judged] >= thresholds for strength, thresholds in found.items()}

    strength, report = choose_strength(fit_and_judge, positive, macro_f1)
    return _shrunk(raw, positive, [strength])[strength], report


def _shrunk(
    raw: NDArray[np.float64], positive: NDArray[np.bool_], strengths: Sequence[float]
) -> dict[float, NDArray[np.float64]]:
    """Draw each label's own threshold towards the common one, (n_labels,) for each strength.

    With ``strength`` positives a label's threshold is halfway; without any it is the common one.
    """
    common = common_threshold(raw, positive)
    counts = positive.sum(axis=0)
    own = np.full(len(counts), common)
    for label in np.flatnonzero(counts):
        own[label] = common_threshold(raw[:, [label]], positive[:, [label]])
    return {
        strength: common + (own - common) * (counts / (counts + strength) if math.isfinite(strength) else 0.0)
        for strength in strengths
    }


def _macro_f1_curve(
    raw: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give every distinct logit, falling, and the exact macro-F1 of predicting all cells at or over it."""
    occurs = positive.any(axis=0)
    raw, positive = raw[:, occurs], positive[:, occurs]
    order = np.argsort(-raw, axis=0, kind="stable")
    hits = np.take_along_axis(positive, order, axis=0)
    n_predicted = np.arange(1, len(raw) + 1)[:, None]
    f1 = 2 * np.cumsum(hits, axis=0) / (n_predicted + positive.sum(axis=0))
    # Each cell changes its own label's F1 only, so macro-F1 is a running sum over all cells.
    gains = np.diff(f1, axis=0, prepend=0.0).ravel()
    cells = np.take_along_axis(raw, order, axis=0).ravel()
    falling = np.argsort(-cells, kind="stable")
    cells, macro_f1 = cells[falling], np.cumsum(gains[falling]) / raw.shape[1]
    ends = np.append(np.flatnonzero(np.diff(cells)), len(cells) - 1)
    return cells[ends], macro_f1[ends]
