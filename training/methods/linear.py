"""Logistic regressions on fixed features: validation chooses the penalty, and the result is an artifact."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from safetensors.torch import save

from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import SEEN
from ptec_udf.model.manifest import Manifest
from training.calibrate.decisions import fit_decisions
from training.config import CalibratorName, ThresholdsName
from training.data.dataset import Examples
from training.data.provenance import seen_in
from training.evaluate.metrics import mean_average_precision
from training.evaluate.report import report_on, without_distributions
from training.export import common_fields, head_files, write_artifact
from training.fit.logistic import LinearModels, fit_logistic
from training.methods.artifact import load_learned
from training.methods.method import Learned, Method, Task

Penalties = Annotated[
    list[Annotated[float, Field(gt=0)]],
    Field(min_length=1),
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
]
"""One value of C, or several to choose from; less keeps weights closer to 0."""


@dataclass(frozen=True)
class Basis:
    """Features, as some rows decide them.

    Attributes:
        features: of texts, dense or sparse, *Shape:* ``(n_texts, n_features)``.
        class_weights: of negatives and positives, *Shape:* ``(n_labels, 2)``.
        fields: of the manifest.
        centre: what ``features`` subtracts, a number or *Shape:* ``(n_features,)``.
        scale: what ``features`` then divides by, likewise.
        files: of the artifact, apart from the head.
    """

    features: Callable[[Sequence[str]], Any]
    class_weights: NDArray[np.float64]
    fields: dict[str, Any]
    centre: NDArray[np.floating] | float = 0.0
    scale: NDArray[np.floating] | float = 1.0
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def log_weights(self) -> NDArray[np.float64]:
        """Logarithms of the weights of positives against negatives, *Shape:* ``(n_labels,)``."""
        return np.log(self.class_weights[:, 1] / self.class_weights[:, 0])

    def head(self, lines: LinearModels) -> dict[str, torch.Tensor]:
        """Return weights and biases for features that are neither centred nor scaled."""
        weights = lines.weights / self.scale
        biases = lines.biases - (weights * self.centre).sum(axis=1)
        return {"weight": torch.from_numpy(weights).float().contiguous(), "bias": torch.from_numpy(biases).float()}


class Linear(Method):
    """What such methods share; they are fitted to the minimum, so no seed matters."""

    deployable: ClassVar[bool] = True
    solver: ClassVar[dict[str, Any]]
    """Options of scikit-learn's regression."""

    C: Penalties
    calibrator: CalibratorName = Field("platt", description="as in training")
    thresholds: ThresholdsName = Field("common", description="as in training")

    @abstractmethod
    def basis(self, rows: Examples, template: str) -> Basis:
        """Make the features of these rows, whose texts are of a template."""

    def learn(self, task: Task) -> Learned:
        """Fit to train with each penalty, let validation choose and decide, and fit to both with the best.

        The returned model is read back from the artifact, so that what is measured is what is deployed.
        """
        started, folder, validation = time.monotonic(), task.folder / "artifact", task.validation
        basis, whole = self.basis(task.train, task.template), task.whole
        quality, logits = self._try_penalties(basis, task)
        best = max(quality, key=quality.__getitem__)
        if len(quality) > 1 and best in (min(quality), max(quality)):
            logger.info(f"C {best:g}, the best on validation, is at the edge of those tried; try others beyond it")
        decisions = fit_decisions(
            logits[best],
            validation.targets,
            basis.log_weights,
            calibrator=self.calibrator,
            thresholds=self.thresholds,
        )
        rates = task.train.targets.mean(axis=0)
        report = report_on(
            logits[best], validation.targets, decisions.calibration, decisions.thresholds, task.names, rates
        )
        final = self.basis(whole, task.template)
        lines = self._fit(final, whole, final.features(whole.texts), best)
        metrics = {
            "learning": {"seconds": round(time.monotonic() - started, 1)},
            "chosen_on_validation": {"C": {"chosen": best, "map": quality}},
            "validation_share": task.validation_share,
            "log_pos_weights": dict(zip(task.names, final.log_weights.tolist(), strict=True)),
            "splits": {"validation": without_distributions(report)},
        }
        decisions = decisions.adjust_for_class_weights(basis.log_weights, final.log_weights)
        common = common_fields(task.record, task.names, decisions, whole.targets)
        manifest = Manifest(calibrator=self.calibrator, **common, **final.fields)
        seen = {SEEN: save(seen_in(task.record, [whole]))}
        write_artifact(manifest, final.files | head_files(final.head(lines), metrics) | seen, folder)
        return load_learned(load_artifact(folder))

    def _try_penalties(self, basis: Basis, task: Task) -> tuple[dict[float, float], dict[float, NDArray[np.floating]]]:
        """Fit to train with each penalty; return mAP and logits of validation by penalty."""
        known, held_out = basis.features(task.train.texts), basis.features(task.validation.texts)
        quality: dict[float, float] = {}
        logits: dict[float, NDArray[np.floating]] = {}
        for penalty in self.C:
            lines = self._fit(basis, task.train, known, penalty)
            logits[penalty] = np.asarray(held_out @ lines.weights.T) + lines.biases
            quality[penalty] = round(mean_average_precision(logits[penalty], task.validation.targets), 6)
            logger.info(f"C {penalty:g}: mAP on validation {quality[penalty]:.4f}")
        return quality, logits

    def _fit(self, basis: Basis, rows: Examples, features: Any, penalty: float) -> LinearModels:
        return fit_logistic(features, rows.targets, basis.class_weights, {"C": penalty, **self.solver})
