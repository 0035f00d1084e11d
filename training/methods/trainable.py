"""The methods that ``ptec train`` carries out: PTEC and its rival LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import model_validator

from ptec_udf.model.artifact import load_artifact
from training.config import LoraSettings, Recipe, TrainConfig
from training.fit.inputs import load_inputs
from training.methods.artifact import load_learned
from training.methods.method import Learned, Method, Task
from training.train import train


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
        return load_learned(load_artifact(Path(config.out)))

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
