"""What tune decides once a model is trained: calibration and threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.calibrate import CALIBRATORS, Calibration, common_threshold, threshold_probabilities
from training.data import Rows
from training.fit import Trainer


@dataclass(frozen=True)
class Decisions:
    """How a model's logits become probabilities and labels.

    Attributes:
        calibration: scale and offset per label.
        threshold_logit: the common threshold on the raw logit.
    """

    calibration: Calibration
    threshold_logit: float

    @property
    def thresholds(self) -> np.ndarray:
        """The common threshold as a probability of each label, *Shape:* ``(n_labels,)``."""
        return threshold_probabilities(self.threshold_logit, self.calibration)

    def moved(self, before: np.ndarray, after: np.ndarray) -> Decisions:
        """Return what holds for a model of the same recipe whose positives weighed otherwise.

        Weights shift logits by their logarithm, so the probability of a logit moves along.

        Args:
            before: logarithms of the weights of positives of the model that decided, *Shape:* ``(n_labels,)``.
            after: those of the other model, of the same shape.
        """
        scale, offset = self.calibration.scale, self.calibration.offset
        return Decisions(Calibration(scale, offset + scale * (before - after)), self.threshold_logit)


def decide(trainer: Trainer, tune: Rows) -> Decisions:
    """Fit calibration and threshold on tune, the only rows that choose anything."""
    logits = trainer.logits(tune)
    fit = CALIBRATORS[trainer.config.calibrator]
    return Decisions(fit(logits, tune.targets, trainer.log_weights), common_threshold(logits, tune.targets))
