"""The parameters that held-out rows decide once a model is trained: calibration and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptec_training.calibrate.calibration import Calibration, fit_platt
from ptec_training.calibrate.thresholds import common_threshold, per_label_thresholds
from ptec_training.config import ThresholdsName
from ptec_udf.model.manifest import Manifest


@dataclass(frozen=True, eq=False)
class Decisions:
    """How a model's logits become probabilities and labels.

    ``common_threshold`` is on the raw logit, ``thresholds`` are probabilities, *Shape:* ``(n_labels,)``.
    """

    calibration: Calibration
    common_threshold: float
    thresholds: NDArray[np.float64]

    @classmethod
    def of(cls, manifest: Manifest) -> Decisions:
        """Read the decisions of a model."""
        columns = np.array([(label.scale, label.offset, label.threshold) for label in manifest.labels]).T
        scale, offset, thresholds = columns
        return cls(Calibration(scale, offset), manifest.threshold_logit, thresholds)

    @property
    def threshold_logits(self) -> NDArray[np.float64]:
        """The thresholds on the raw logit, *Shape:* ``(n_labels,)``."""
        return self.calibration.logits(self.thresholds)

    def decide(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which labels rows get; both *Shape:* ``(n_rows, n_labels)``."""
        return self.calibration.probabilities(logits) >= self.thresholds

    def adjust_for_class_weights(self, before: NDArray[np.floating], after: NDArray[np.floating]) -> Decisions:
        """Return the decisions for a model of the same recipe whose positives had other log weights in training.

        Weights shift logits by their logarithm, so the calibration shifts too; thresholds stay on the same logit.
        """
        offset = self.calibration.offset + self.calibration.scale * (before - after)
        calibration = replace(self.calibration, offset=offset)
        return replace(self, calibration=calibration, thresholds=calibration.thresholds(self.threshold_logits))

    def select(self, positions: Sequence[int]) -> Decisions:
        """Return the decisions of some labels, by position."""
        scale, offset = self.calibration.scale[positions], self.calibration.offset[positions]
        calibration = replace(self.calibration, scale=scale, offset=offset)
        return replace(self, calibration=calibration, thresholds=self.thresholds[positions])

    def with_thresholds(self, names: list[str], thresholds: Mapping[str, float]) -> Decisions:
        """Set some labels' thresholds, as probabilities; ``names`` are all labels in order."""
        values = [thresholds.get(name, old) for name, old in zip(names, self.thresholds.tolist(), strict=True)]
        return replace(self, thresholds=np.array(values))


def fit_decisions(
    logits: NDArray[np.floating],
    targets: NDArray[np.generic],
    log_pos_weight: NDArray[np.floating],
    thresholds: ThresholdsName = "common",
) -> Decisions:
    """Fit calibration and thresholds to rows that the model has not learned from; arguments as of ``fit_platt``."""
    calibration, common = fit_platt(logits, targets, log_pos_weight), common_threshold(logits, targets)
    on_logits = per_label_thresholds(logits, targets) if thresholds == "per_label" else common
    return Decisions(calibration, common, calibration.thresholds(on_logits))
