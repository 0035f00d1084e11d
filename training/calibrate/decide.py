"""What held-out rows decide once a model is trained: calibration and thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.model.manifest import Manifest
from training.calibrate.calibrate import (
    Calibration,
    fit_none,
    fit_platt,
    fit_temperature,
    threshold_logits,
    threshold_probabilities,
)
from training.calibrate.calibrate_curve import bent_line
from training.calibrate.calibrate_labels import own_lines
from training.calibrate.shrunk import fit_shrunk
from training.calibrate.thresholds import common_threshold, fit_thresholds
from training.config import CalibratorName, ThresholdsName

_SHARED = {"platt": fit_platt, "temperature": fit_temperature, "none": fit_none}
_SHRUNK = {"platt_per_label": own_lines, "isotonic": bent_line}


@dataclass(frozen=True, eq=False)
class Decisions:
    """How a model's logits become probabilities and labels.

    Attributes:
        calibration: scale and offset per label, and the curve, if there is one.
        common_threshold: the best threshold on the raw logit if all labels shared it.
        threshold_logits: each label's threshold on the raw logit, *Shape:* ``(n_labels,)``.
    """

    calibration: Calibration
    common_threshold: float
    threshold_logits: NDArray[np.float64]

    @classmethod
    def of(cls, manifest: Manifest) -> Decisions:
        """Read those of a model."""
        scale, offset, thresholds = (
            np.array([getattr(label, name) for label in manifest.labels]) for name in ("scale", "offset", "threshold")
        )
        calibration = Calibration(scale, offset, manifest.curve)
        return cls(calibration, manifest.threshold_logit, threshold_logits(thresholds, calibration))

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """The thresholds as probabilities, *Shape:* ``(n_labels,)``."""
        return threshold_probabilities(self.threshold_logits, self.calibration)

    def decide(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Say which labels rows get; both *Shape:* ``(n_rows, n_labels)``."""
        return logits >= self.threshold_logits

    def moved(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> Decisions:
        """Return what holds for a model of the same recipe whose positives weighed otherwise.

        Weights shift logits by their logarithm, so the probability of a logit moves along.

        Args:
            before: logarithms of the weights of positives of the model that decided, *Shape:* ``(n_labels,)``.
            after: those of the other model, of the same shape.
        """
        offset = self.calibration.offset + self.calibration.scale * (before - after)
        calibration = replace(self.calibration, offset=offset)
        return Decisions(calibration, self.common_threshold, self.threshold_logits)


def fit_decisions(
    logits: NDArray[np.floating],
    targets: NDArray[np.generic],
    log_weights: NDArray[np.floating],
    *,
    calibrator: CalibratorName = "platt",
    thresholds: ThresholdsName = "common",
) -> tuple[Decisions, dict[str, Any]]:
    """Fit calibration and thresholds to rows that a model has not learned from.

    Args:
        logits: raw logits, (n_rows, n_labels).
        targets: 0 or 1, (n_rows, n_labels).
        log_weights: natural logarithm of the weights of positives, (n_labels,).
        calibrator: ``platt``: one line for all labels; ``platt_per_label``: each label its own, drawn towards that one;
            ``isotonic``: the line, bent for all labels alike; ``temperature``: one scale for all labels; ``none``: only
            the weight of positives is undone.
        thresholds: ``common``: one for all labels; ``per_label``: each label its own, drawn towards that one.

    Returns:
        The decisions, and what was compared by cross-fitting, by the name of what was chosen.

    Raises:
        TrainingError: when shapes differ, a logit is not finite, or no target is positive.
    """
    report: dict[str, Any] = {}
    common = common_threshold(logits, targets)
    threshold_logits = np.full(logits.shape[1], common)
    if thresholds == "per_label":
        threshold_logits, report["thresholds"] = fit_thresholds(logits, targets)
    if calibrator in _SHRUNK:
        calibration, report["calibration"] = fit_shrunk(_SHRUNK[calibrator], logits, targets, log_weights)
    else:
        calibration = _SHARED[calibrator](logits, targets, log_weights)
    return Decisions(calibration, common, threshold_logits), report
