"""Artifacts of ``ptec train`` as methods: trained here as PTEC or its rival LoRA, or before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ptec_udf.engine.result import ERROR
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.model.artifact import Artifact, load_artifact
from training.calibrate.decisions import Decisions
from training.config import LoraSettings, Recipe, TrainConfig
from training.data.provenance import fitted_by, seen_by
from training.fit.inputs import load_inputs
from training.methods.method import Learned, Method, Score, Task
from training.train import train

_BELOW_THRESHOLD = 20.0  # logits of an empty text lie this far below the thresholds


class TrainableMethod(Recipe, Method):
    """A training; the settings are those of ``ptec train``."""

    deployable: ClassVar[bool] = True
    seeded: ClassVar[bool] = True

    @model_validator(mode="after")
    def _validation_is_shared(self) -> TrainableMethod:
        if "validation_share" in self.stopping.model_fields_set:
            raise ValueError(
                "stopping.validation_share must not be set for one method; set validation_share of the benchmark"
            )
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


class Ptec(TrainableMethod):
    """Soft prompt and head on a frozen backbone: Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075)."""

    method: Literal["ptec"] = "ptec"

    @model_validator(mode="after")
    def _has_no_lora(self) -> Ptec:
        if self.lora is not None:
            raise ValueError("lora must not be set for ptec; use method: lora")
        return self


class Lora(TrainableMethod):
    """Low-rank changes of the backbone and a head: Hu et al., ICLR 2022 (arXiv 2106.09685)."""

    method: Literal["lora"] = "lora"

    lora: LoraSettings = LoraSettings()

    @model_validator(mode="after")
    def _has_no_prompt(self) -> Lora:
        if "prompt" in self.model_fields_set:
            raise ValueError("prompt must not be set for lora; use method: ptec")
        return self


class PretrainedArtifact(Method):
    """An artifact of ``ptec train`` on the same extract."""

    deployable: ClassVar[bool] = True

    method: Literal["artifact"] = "artifact"
    folder: str = Field(min_length=1, description="folder of the artifact")

    def facts(self) -> dict[str, Any]:
        """Name the model, since another one may replace it in the folder."""
        return {**super().facts(), "model_id": load_artifact(Path(self.folder)).model_id}

    def check(self, task: Task) -> None:
        """Refuse a model that may have learned from the evaluated rows.

        Raises:
            ArtifactError: for a folder without a whole artifact.
            ConfigError: for a model of another extract, or one that was recalibrated.
        """
        artifact = load_artifact(Path(self.folder))
        is_other = artifact.manifest.extract.fingerprint != task.record["fingerprint"]
        if is_other or fitted_by(artifact) is not None:
            raise ConfigError(
                f"an artifact must be trained from the extract {str(task.extract)!r} and not recalibrated, was not: "
                f"{self.folder!r}; rows that it has learned from may be evaluated here"
            )

    def learn(self, task: Task) -> Learned:
        """Load the artifact."""
        return load_learned(Path(self.folder))


def load_learned(folder: Path) -> Learned:
    """Return an artifact as a method that has learned.

    Raises:
        ArtifactError, BackboneError: for a model that cannot be loaded.
    """
    artifact = load_artifact(folder)
    seconds = artifact.metrics.get("learning", {}).get("seconds")
    return Learned(artifact_score(artifact), Decisions.of(artifact.manifest), seconds, seen_by(artifact))


def artifact_score(artifact: Artifact) -> Score:
    """Return an artifact's logits as a function of texts, which raises a TrainingError where a text fails.

    Raises:
        ArtifactError, BackboneError: for a model that cannot be loaded.
    """
    scorer = load_scorer(artifact)
    empty = Decisions.of(artifact.manifest).threshold_logits - _BELOW_THRESHOLD

    def score(texts: Sequence[str]) -> NDArray[np.floating]:
        scored = scorer.score(texts)
        if n_failed := sum(text.status == ERROR for text in scored):
            raise TrainingError(f"all texts must be scored, {n_failed} of {len(texts)} failed; run ptec score on them")
        return np.stack([empty if text.logits is None else text.logits for text in scored])

    return score
