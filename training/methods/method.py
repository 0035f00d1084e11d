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
from training.calibrate.decisions import Decisions, fit_decisions
from training.data.dataset import Examples
from training.data.provenance import Seen

Score = Callable[[Sequence[str]], NDArray[np.floating]]
"""From texts to one number per label, *Shape:* ``(n_texts, n_labels)``; more is likelier."""


@dataclass(frozen=True)
class Task:
    """The rows of an extract to learn from, and the folder where a method may keep files.

    ``validation`` chooses settings, thresholds and calibration. ``validation_share`` is its share of the extract's
    training rows.
    """

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
    """A method after learning.

    Attributes:
        score: logits; where ``decisions`` is None, decisions as 0 and 1.
        decisions: thresholds and calibration of the logits.
        seconds: duration of learning where it may have been resumed; None: the benchmark measures it.
        seen: hashes of the rows that a pretrained model has learned from; None: the task's rows.
    """

    score: Score
    decisions: Decisions | None
    seconds: float | None = None
    seen: Seen | None = None


class Method(Section):
    """A way to learn labels; its fields are its settings."""

    deployable: ClassVar[bool] = False
    """Whether ``ptec score`` can run the model."""
    seeded: ClassVar[bool] = False
    """Whether another seed gives another model."""

    n_seeds: int | None = Field(None, ge=1, description="use this many of the benchmark's seeds; null: all")

    def facts(self) -> dict[str, Any]:
        """Return what decides the result apart from rows and seed, the backbone's content included; JSON-ready."""
        values = self.model_dump(mode="json", exclude_none=True, exclude={"n_seeds"})
        if "backbone" in values:
            values["content_hash"] = resolve(values["backbone"]).content_hash()
        return values

    def check(self, task: Task) -> None:
        """Refuse early what would stop ``learn`` later.

        Raises:
            UserError: for settings that do not suit the backbone, or a model that cannot be used.
        """

    @abstractmethod
    def learn(self, task: Task) -> Learned:
        """Learn from the task's rows.

        Raises:
            TrainingError: when it cannot.
        """


def learn_unweighted(fit: Callable[[Examples], Score], task: Task) -> Learned:
    """Fit on train, let validation decide thresholds and calibration, and fit once more on both together.

    ``fit`` maps rows to a score whose positives are not weighted.
    """
    logits = fit(task.train)(task.validation.texts)
    decisions = fit_decisions(logits, task.validation.targets, np.zeros(len(task.names)))
    return Learned(fit(task.whole), decisions)


def model_device() -> torch.device:
    """Return the device that a method's backbone runs on: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
