"""What a comparison asks of a method: learn from train, let validation decide, score texts.

A method is a configuration section whose fields are its settings. It is handed train and validation only, so that
it cannot choose anything on the rows that judge it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import LONGEST_SEGMENT
from ptec_udf.section import Section
from training.calibrate.decide import Decisions, fit_decisions
from training.data.dataset import Examples
from training.data.provenance import Seen

Score = Callable[[Sequence[str]], NDArray[np.floating]]
"""From texts to one figure per label, *Shape:* ``(n_texts, n_labels)``; more is likelier."""


@dataclass(frozen=True)
class Task:
    """What there is to learn.

    Attributes:
        names: the labels, in the order of all targets.
        train: rows to learn from.
        validation: rows that choose settings, threshold and calibration.
        seed: decides everything random.
        extract: the folder that the rows are from.
        extract_fingerprint: of its rows.
        template: that makes its texts, by which long ones are cut.
        validation_share: share of the extract's training rows that is validation.
        folder: where the method may keep files, for instance the state of a long training.
        shared: where it may keep, until the benchmark ends, what other runs need too.
    """

    names: list[str]
    train: Examples
    validation: Examples
    seed: int
    extract: Path
    extract_fingerprint: str
    template: str
    validation_share: float
    folder: Path
    shared: Path

    @property
    def whole(self) -> Examples:
        """Train and validation together: what the final model learns from."""
        return self.train.joined(self.validation)


@dataclass(frozen=True)
class Learned:
    """A method after learning.

    Attributes:
        score: logits; where ``decisions`` is None, decisions as 0 and 1.
        decisions: threshold and calibration for the logits.
        seconds: what learning took where an interrupted one may have gone on; None: all of it took place now.
        flop: floating-point operations of learning, see ``training/flops.py``; None: not known, or there are none.
        flop_of_scoring: the same of scoring texts.
        seen: hashes of rows that a model learned from which came from elsewhere; None: from the task's rows alone.
    """

    score: Score
    decisions: Decisions | None
    seconds: float | None = None
    flop: float | None = None
    flop_of_scoring: Callable[[Sequence[str]], float] | None = None
    seen: Seen | None = None


@dataclass(frozen=True)
class Fit:
    """A model that is fitted to some rows.

    Attributes:
        score: logits.
        log_weights: natural logarithm of the weights of positives against negatives, by which the logits are
            shifted, *Shape:* ``(n_labels,)``.
    """

    score: Score
    log_weights: NDArray[np.float64]


class Method(Section):
    """A way to learn labels; its fields are its settings."""

    deployable: ClassVar[bool] = False
    """Whether ``ptec score`` takes what it makes; the others are there to be compared with."""
    seeded: ClassVar[bool] = False
    """Whether another seed gives another model."""

    n_seeds: int | None = Field(None, ge=1, description="so many of the benchmark's seeds only; null: all")

    def facts(self) -> dict[str, Any]:
        """Return what decides the result beside the rows and the seed, a backbone's content too; JSON-ready."""
        # Without what is null, so that runs outlive settings that are yet to come.
        values = self.model_dump(mode="json", exclude_none=True, exclude={"n_seeds"})
        if "backbone" in values:
            values["content_hash"] = resolve(values["backbone"]).content_hash()
            values["cut"] = LONGEST_SEGMENT  # no setting, but runs of old cut texts at their end
        return values

    def check(self, task: Task) -> None:
        """Refuse at once what would end ``learn`` later.

        Raises:
            UserError: for settings that do not suit the backbone, or a model that cannot be used.
        """

    @abstractmethod
    def learn(self, task: Task) -> Learned:
        """Learn from the task's rows.

        Raises:
            TrainingError: when it cannot.
        """


def decided_on_validation(fit: Callable[[Examples], Fit], task: Task) -> Learned:
    """Fit on train, let validation give threshold and calibration, and fit once more on both together.

    What it costs is left open.
    """
    first = fit(task.train)
    logits = first.score(task.validation.texts)
    decisions, _ = fit_decisions(logits, task.validation.targets, first.log_weights)
    final = fit(task.whole)
    return Learned(final.score, decisions.moved(first.log_weights, final.log_weights))
