"""What ``ptec train`` makes: an artifact that can be deployed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import model_validator

from ptec_udf.model.artifact import load_artifact
from training.config import Recipe, TrainConfig
from training.fit.inputs import prepare
from training.methods.artifact import Search, cost_of_search, learned_artifact
from training.methods.method import Learned, Method, Task
from training.train import train


class ByTraining(Recipe, Method):
    """A training; the settings are those of ``ptec train``."""

    deployable: ClassVar[bool] = True
    seeded: ClassVar[bool] = True

    search: Search = None

    @model_validator(mode="after")
    def _validation_is_the_same_for_all(self) -> ByTraining:
        if "validation_share" in self.stopping.model_fields_set:
            raise ValueError(
                "stopping.validation_share must not be set for one method; set validation_share of the benchmark"
            )
        return self

    def check(self, task: Task) -> None:
        """Load the backbone and look whether the settings suit it."""
        prepare(self._config(task), ())
        cost_of_search(self.search, task.extract_fingerprint)

    def learn(self, task: Task) -> Learned:
        """Train, and keep the artifact in the task's folder."""
        config = self._config(task)
        train(config, measured=(), shared=task.shared)
        return learned_artifact(load_artifact(Path(config.out)), cost_of_search(self.search, task.extract_fingerprint))

    def _config(self, task: Task) -> TrainConfig:
        settings = self.model_dump(exclude={"method", "n_seeds", "search"})
        settings["stopping"]["validation_share"] = task.validation_share
        out = task.folder / "artifact"
        return TrainConfig(**settings, extract=str(task.extract), out=str(out), overwrite=True, seed=task.seed)
