"""Logistic regressions on features that nothing trains: fitted with a penalty chosen on validation."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
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
from training.calibrate.decide import Decisions, fit_decisions
from training.config import CalibratorName, ThresholdsName
from training.data.dataset import Examples
from training.data.folder import read_extract_record
from training.data.provenance import seen_in
from training.describe import common_fields
from training.evaluate.metrics import mean_average_precision
from training.evaluate.report import of_first_fit, report_on
from training.export import head_files, write_artifact
from training.fit.logistic import Lines, fit_logistic
from training.methods.artifact import learned_artifact
from training.methods.method import Learned, Method, Task

Penalties = Annotated[
    list[Annotated[float, Field(gt=0)]],
    Field(min_length=1),
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
]
"""One inverse penalty, or several to choose from; less holds weights nearer to 0."""


@dataclass(frozen=True)
class Basis:
    """What regressions are fitted on, as some rows decide it.

    Attributes:
        features: of texts, dense or sparse, *Shape:* ``(n_texts, n_features)``.
        class_weights: of negatives and positives, *Shape:* ``(n_labels, 2)``.
        fields: of the manifest.
        centre: what ``features`` subtracts, a number or *Shape:* ``(n_features,)``.
        scale: what ``features`` then divides by, likewise.
        files: of the artifact, beside the head.
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

    def head(self, lines: Lines) -> dict[str, torch.Tensor]:
        """Return weights and biases for features that are neither centred nor scaled."""
        weights = lines.weights / self.scale
        biases = lines.biases - (weights * self.centre).sum(axis=1)
        return {"weight": torch.from_numpy(weights).float().contiguous(), "bias": torch.from_numpy(biases).float()}


class Linear(Method):
    """What such methods have in common; fitted to the minimum, so no seed matters."""

    deployable: ClassVar[bool] = True
    solver: ClassVar[dict[str, Any]]
    """Options of scikit-learn's regression."""

    inverse_penalty: Penalties
    calibrator: CalibratorName = Field("platt", description="as for training")
    thresholds: ThresholdsName = Field("common", description="as for training")

    @abstractmethod
    def basis(self, rows: Examples, template: str) -> Basis:
        """Make what the regressions of these rows are fitted on, whose texts are of a template."""

    def flop_of_features(self, texts: Sequence[str], template: str) -> float:
        """Return the floating-point operations that features of texts have taken."""
        return 0.0

    def learn(self, task: Task) -> Learned:
        """Fit to train with each penalty, let validation choose one and decide, and fit to both with that one.

        What is returned is read back from the artifact, so that what is measured is what is deployed.
        """
        started, folder = time.monotonic(), task.folder / "artifact"
        basis, whole = self.basis(task.train, task.template), task.whole
        quality, logits, flop = self._tried(basis, task)
        best = max(quality, key=quality.__getitem__)
        say_if_at_edge(best, quality)
        decisions, chosen = fit_decisions(
            logits[best],
            task.validation.targets,
            basis.log_weights,
            calibrator=self.calibrator,
            thresholds=self.thresholds,
        )
        of_validation = _figures(logits[best], decisions, task)
        final = self.basis(whole, task.template)
        lines = self._fitted(final, whole, final.features(whole.texts), best)
        metrics = {
            "learning": {"seconds": round(time.monotonic() - started, 1), "flop": flop + lines.flop},
            "chosen_on_validation": chosen | {"inverse_penalty": {"chosen": best, "map": quality}},
            "validation_share": task.validation_share,
            "log_pos_weights": dict(zip(task.names, final.log_weights.tolist(), strict=True)),
            "splits": {"validation": of_first_fit(of_validation)},
        }
        decisions = decisions.moved(basis.log_weights, final.log_weights)
        record = read_extract_record(task.extract)
        common = common_fields(record, task.names, decisions, whole.targets)
        manifest = Manifest(calibrator=self.calibrator, **common, **final.fields)
        seen = {SEEN: save(seen_in(record, [whole]))}
        write_artifact(manifest, final.files | head_files(final.head(lines), metrics) | seen, folder)
        return learned_artifact(load_artifact(folder))

    def _tried(self, basis: Basis, task: Task) -> tuple[dict[float, float], dict[float, NDArray[np.floating]], float]:
        """Fit to train with each penalty; return mAP and logits of validation by penalty, and what all of it took."""
        known, held_out = basis.features(task.train.texts), basis.features(task.validation.texts)
        flop = sum(self.flop_of_features(rows.texts, task.template) for rows in (task.train, task.validation))
        quality: dict[float, float] = {}
        logits: dict[float, NDArray[np.floating]] = {}
        for penalty in self.inverse_penalty:
            lines = self._fitted(basis, task.train, known, penalty)
            logits[penalty] = np.asarray(held_out @ lines.weights.T) + lines.biases
            quality[penalty] = round(mean_average_precision(logits[penalty], task.validation.targets), 6)
            flop += lines.flop
            logger.info(f"inverse penalty {penalty:g}: mAP on validation {quality[penalty]:.4f}")
        return quality, logits, flop

    def _fitted(self, basis: Basis, rows: Examples, features: Any, penalty: float) -> Lines:
        return fit_logistic(features, rows.targets, basis.class_weights, {"C": penalty, **self.solver})


def say_if_at_edge(best: float, tried: Iterable[float]) -> None:
    """Tell where the best of several inverse penalties is the least or the greatest: beyond it may be better ones."""
    ordered = sorted(tried)
    for edge, side in ((ordered[0], "least"), (ordered[-1], "greatest")):
        if best == edge and len(ordered) > 1:
            logger.info(
                f"inverse penalty {best:g}, the best on validation, is the {side} of those tried; try others beyond it"
            )


def _figures(logits: NDArray[np.floating], decisions: Decisions, task: Task) -> dict[str, Any]:
    """Report validation."""
    base_rates = task.train.targets.mean(axis=0)
    return report_on(
        logits, task.validation.targets, decisions.calibration, decisions.thresholds, task.names, base_rates
    )
