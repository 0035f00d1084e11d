"""What a model makes of its logits, apart from the model: read from a manifest, fitted anew, put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ptec_udf.model.artifact import Artifact
from ptec_udf.model.manifest import Manifest
from training.calibrate.calibrate import Calibration, threshold_logits, threshold_probabilities
from training.calibrate.decide import Decisions, fit_decisions
from training.calibrate.recalibration.config import RecalibrateConfig

KEEP: Final = "keep"


@dataclass(frozen=True, eq=False)
class Parameters:
    """Calibration and thresholds.

    Attributes:
        calibrator: name of the calibration's form.
        calibration: scale and offset per label, and the curve, if there is one.
        threshold_logit: the best threshold on the raw logit if all labels shared it.
        thresholds: each label's threshold as a probability, *Shape:* ``(n_labels,)``.
    """

    calibrator: str
    calibration: Calibration
    threshold_logit: float
    thresholds: NDArray[np.float64]

    @classmethod
    def of(cls, manifest: Manifest) -> Parameters:
        """Read those of a model."""
        thresholds = np.array(
            [label.threshold for label in manifest.labels]
        )  # as written: a way to logits and back rounds
        return cls(manifest.calibrator, Decisions.of(manifest).calibration, manifest.threshold_logit, thresholds)

    def decide(self, logits: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Give probabilities and whether labels are assigned; all *Shape:* ``(n_rows, n_labels)``."""
        probabilities = self.calibration.probabilities(logits)
        return probabilities, probabilities >= self.thresholds

    def fitted(
        self,
        logits: NDArray[np.floating],
        targets: NDArray[np.generic],
        log_weights: NDArray[np.floating],
        config: RecalibrateConfig,
    ) -> tuple[Parameters, dict[str, Any]]:
        """Fit anew what the configuration does not keep.

        A kept threshold stays on the logit: where calibration changes, its probability moves along, so that the
        same companies have the label.

        Args:
            logits: raw logits of rows that the model has not learned from, *Shape:* ``(n_rows, n_labels)``.
            targets: 0 or 1, of the same shape.
            log_weights: natural logarithms of the weights of positives, *Shape:* ``(n_labels,)``.
            config: forms of calibration and thresholds.

        Returns:
            The parameters, and what was compared by cross-fitting.

        Raises:
            TrainingError: when a logit is not finite, or no target is positive.
        """
        decisions, report = fit_decisions(
            logits,
            targets,
            log_weights,
            calibrator="none" if config.calibrator == KEEP else config.calibrator,
            thresholds="common" if config.thresholds == KEEP else config.thresholds,
        )
        new = self
        if config.calibrator != KEEP:
            on_logits = threshold_logits(self.thresholds, self.calibration)
            new = Parameters(
                config.calibrator,
                decisions.calibration,
                self.threshold_logit,
                threshold_probabilities(on_logits, decisions.calibration),
            )
        if config.thresholds != KEEP:
            thresholds = threshold_probabilities(decisions.threshold_logits, new.calibration)
            new = replace(new, threshold_logit=decisions.common_threshold, thresholds=thresholds)
        return new, report

    def with_thresholds(self, names: list[str], given: Mapping[str, float]) -> Parameters:
        """Set some labels' thresholds, as probabilities; ``names`` are all labels in order."""
        thresholds = [given.get(name, old) for name, old in zip(names, self.thresholds.tolist(), strict=True)]
        return replace(self, thresholds=np.array(thresholds))

    def put_into(self, manifest: Manifest) -> Manifest:
        """Return a manifest that has these parameters, yet to be sealed."""
        columns = (self.calibration.scale.tolist(), self.calibration.offset.tolist(), self.thresholds.tolist())
        labels = [
            label.model_copy(update={"scale": scale, "offset": offset, "threshold": threshold})
            for label, scale, offset, threshold in zip(manifest.labels, *columns, strict=True)
        ]
        changes = {
            "calibrator": self.calibrator,
            "threshold_logit": self.threshold_logit,
            "curve": self.calibration.curve,
            "labels": labels,
        }
        return manifest.model_copy(update=changes)


def log_pos_weights(artifact: Artifact) -> NDArray[np.float64]:
    """Return the logarithms of the weights of positives that shifted a model's logits, *Shape:* ``(n_labels,)``.

    An artifact that does not tell them has them in its calibration, up to the line's own intercept.
    """
    told = artifact.metrics.get("log_pos_weights")
    if told is not None:
        return np.array([told[label.name] for label in artifact.manifest.labels])
    present = Parameters.of(artifact.manifest).calibration
    return np.asarray(-present.offset / present.scale)
