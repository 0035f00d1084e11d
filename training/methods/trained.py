"""PTEC and its rival LoRA, which ``ptec train`` carries out, and artifacts that score as in ``ptec score``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from ptec_training.calibrate.decisions import Decisions
from ptec_training.config import Recipe, TrainConfig
from ptec_training.fit.inputs import load_inputs
from ptec_training.methods.method import Learned, Method, Score, Task
from ptec_training.train import train
from ptec_udf.engine.scorer import ERROR
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.errors import TrainingError
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.section import refuse

_BELOW_THRESHOLD = 20.0  # logits of an empty text lie this far below the thresholds


class Trained(Recipe, Method):
    """A training with the settings of ``ptec train``.

    PTEC: Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075). LoRA: Hu et al., ICLR 2022 (arXiv 2106.09685).
    """

    deployable: ClassVar[bool] = True
    seeded: ClassVar[bool] = True

    method: Literal["ptec", "lora"]

    @model_validator(mode="after")
    def _settings_fit_the_method(self) -> Trained:
        errors = []
        if "validation_share" in self.stopping.model_fields_set:
            errors.append("stopping.validation_share must not be set for one method; set that of the benchmark")
        if (self.method == "lora") != (self.lora is not None):
            errors.append(f"lora must be set for method lora only, {{}} for its defaults; the method is {self.method}")
        if self.method == "lora" and "prompt" in self.model_fields_set:
            errors.append("prompt must not be set for method lora; use method ptec")
        refuse(errors)
        return self

    def check(self, task: Task) -> None:
        """Load the backbone and check that the settings suit it."""
        load_inputs(self._config(task), ())

    def learn(self, task: Task) -> Learned:
        """Train, and keep the artifact in the task's folder."""
        config = self._config(task)
        train(config, evaluated=())
        return load_learned(Path(config.out))

    def _config(self, task: Task) -> TrainConfig:
        settings = self.model_dump(exclude={"method", "n_seeds"})
        settings["stopping"]["validation_share"] = task.validation_share
        out = task.folder / "artifact"
        return TrainConfig(**settings, extract=str(task.extract), out=str(out), overwrite=True, seed=task.seed)


def load_learned(folder: Path) -> Learned:
    """Return an artifact as a method that has learned; raise a UserError if it cannot be loaded."""
    artifact = load_artifact(folder)
    seconds = artifact.metrics["learning"]["seconds"]
    return Learned(artifact_score(artifact), Decisions.of(artifact.manifest), seconds)


def artifact_score(artifact: Artifact) -> Score:
    """Return an artifact's logits as a function of texts, which raises a TrainingError where a text fails."""
    scorer = load_scorer(artifact)
    empty = Decisions.of(artifact.manifest).threshold_logits - _BELOW_THRESHOLD

    def score(texts: Sequence[str]) -> NDArray[np.floating]:
        scored = scorer.score(texts)
        if n_failed := sum(text.status == ERROR for text in scored):
            raise TrainingError(f"all texts must be scored, {n_failed} of {len(texts)} failed; run ptec score on them")
        return np.stack([empty if text.logits is None else text.logits for text in scored])

    return score
