"""The interface of a method: learn from train, let validation decide, score texts.

A method is a configuration section whose fields are its settings. It gets train and validation only, so that it cannot
choose anything on the evaluated rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ptec_udf.model.backbone import resolve
from ptec_udf.section import Section
from training.calibrate.decisions import Decisions
from training.data.dataset import Examples

Score = Callable[[Sequence[str]], NDArray[np.floating]]
"""From texts to one number per label, *Shape:* ``(n_texts, n_labels)``; more is likelier."""


@dataclass(frozen=True)
class Task:
    """The rows of an extract to learn from (validation chooses), and the folder where a method may keep files."""

    extract: Path
    record: dict[str, Any]
    train: Examples
    validation: Examples
    validation_share: float
    seed: int
    folder: Path

    @property
    def names(self) -> list[str]:
        """The labels, in the order of all targets."""
        return [label["name"] for label in self.record["labels"]]

    @property
    def template(self) -> str:
        """The template of the texts, by which long ones are cut."""
        return str(self.record["template"])

    @property
    def whole(self) -> Examples:
        """Train and validation together: the rows of the final model."""
        return self.train.concat(self.validation)


@dataclass(frozen=True)
class Learned:
    """A method after learning; without ``decisions``, the thresholds and calibration, its scores are 0 and 1.

    ``seconds`` of learning are None where the benchmark measures them.
    """

    score: Score
    decisions: Decisions | None
    seconds: float | None = None


class Method(Section):
    """A way to learn labels; its fields are its settings."""

    deployable: ClassVar[bool] = False
    """Whether ``ptec score`` can run the model."""
    seeded: ClassVar[bool] = False
    """Whether the model depends on the seed."""

    n_seeds: int | None = Field(None, ge=1, description="use this many of the benchmark's seeds; null: all")

    def facts(self) -> dict[str, Any]:
        """Return what decides the result apart from rows and seed, the backbone's content included; JSON-ready."""
        values = self.model_dump(mode="json", exclude_none=True, exclude={"n_seeds"})
        if "backbone" in values:
            values["content_hash"] = resolve(values["backbone"]).content_hash()
        return values

    def check(self, task: Task) -> None:
        """Raise a UserError early for settings or a model that would stop ``learn`` later."""

    @abstractmethod
    def learn(self, task: Task) -> Learned:
        """Learn from the task's rows; raise a TrainingError when it cannot."""


def model_device() -> torch.device:
    """Return the device that a method's backbone runs on: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
