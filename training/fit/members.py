"""Trainings of one recipe that differ in seed, as one model: the mean of their weights, or of their logits.

The mean of weights costs nothing at scoring. It needs members that lie in one valley of the loss, so they share first
prompt and head, and differ in the order of rows and in what is dropped. Source: Wortsman et al., "Model soups", ICML
2022 (arXiv 2203.05482). Members whose logits are averaged differ in their first values too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ptec_udf.log import logger
from ptec_udf.model.ensemble import MeanNetwork, build_ensemble
from ptec_udf.model.network import PtecNetwork
from training.data.dataset import Rows
from training.fit.average import put
from training.fit.checkpoint import Checkpoint, Course, Weights
from training.fit.start import Start
from training.fit.tfidf import Beside
from training.fit.trainer import Trainer, trained_parameters


@dataclass(frozen=True)
class Combined:
    """Trained members that are one model.

    Attributes:
        trainers: with the networks whose logits are averaged; one where there is one member, or weights are averaged.
        terms: what is added to their logits.
    """

    trainers: list[Trainer]
    terms: Beside | None = None

    @property
    def network(self) -> PtecNetwork | MeanNetwork:
        """The model."""
        return build_ensemble([trainer.network for trainer in self.trainers])

    @property
    def rows(self) -> Rows:
        """The training rows."""
        return self.trainers[0].rows

    @property
    def log_weights(self) -> np.ndarray:
        """Logarithms of the weights of positives, by which logits are shifted, *Shape:* ``(n_labels,)``."""
        of_network = self.trainers[0].log_weights
        return of_network if self.terms is None else of_network + self.terms.log_weights

    def logits(self, rows: Rows) -> np.ndarray:
        """Score rows, *Shape:* ``(n_rows, n_labels)``."""
        scored = [trainer.logits(rows) for trainer in self.trainers]
        of_network = scored[0] if len(scored) == 1 else np.mean(scored, axis=0)
        return self.with_terms(of_network, rows)

    def as_scored(self) -> Combined:
        """Return the model in float32, so that figures do not depend on the machine; nights may round more."""
        return replace(self, trainers=[replace(trainer, bfloat16=False) for trainer in self.trainers])

    def with_terms(self, of_network: np.ndarray, rows: Rows) -> np.ndarray:
        """Add what the terms say to the network's logits, both *Shape:* ``(n_rows, n_labels)``."""
        return of_network if self.terms is None else of_network + self.terms.logits(rows.texts)


@dataclass(frozen=True)
class States:
    """Where trainings keep their states.

    Attributes:
        folder: of all of them.
        fingerprints: of each member's training.
        arithmetic: as ``Start.arithmetic`` of the first process; a training does not go on in another one.
        shared: whether other models' trainings keep theirs there too.
    """

    folder: Path
    fingerprints: Sequence[str]
    arithmetic: str
    shared: bool

    def checkpoint(self, training: str, at: int, epochs: int | None) -> Checkpoint:
        """Return the place of one member, in the first or second ``training``, which has a set number of epochs."""
        fingerprint = self.fingerprints[at]
        folder = self.folder / fingerprint[:16] / training if self.shared else self.folder / _numbered(training, at)
        return Checkpoint(folder, f"{fingerprint}-{self.arithmetic}-{epochs}")


def fit_members(
    start: Start,
    rows: Rows,
    validation: Rows | None,
    training: str,
    states: States,
    epochs: Sequence[int] | None = None,
) -> tuple[Combined, dict[str, Course]]:
    """Train all members and combine them.

    Args:
        start: where they start.
        rows: to learn from.
        validation: rows that decide when each stops, or None.
        training: its name, which the members after the first extend by their number.
        states: where their states are kept.
        epochs: of each member; None: at most those of the configuration.

    Returns:
        The model, and the course of each training by its name.

    Raises:
        TrainingError: when a training diverges.
    """
    config = start.config
    trainers: list[Trainer] = []
    courses: dict[str, Course] = {}
    total: Weights = {}
    for at in range(config.members):
        if config.members > 1:
            logger.info(f"member {at + 1} of {config.members}")
        own = epochs[at] if epochs else None
        checkpoint = states.checkpoint(training, at, own)
        trainer = _trainer(start, at, rows, validation, own or config.stopping.epochs, checkpoint)
        courses[_numbered(training, at)] = trainer.fit()
        if config.combine == "logits":
            trainers.append(trainer)
        else:
            trainers = [trainer]
            for key, parameter in trained_parameters(trainer.network):
                total[key] = total.get(key, 0) + parameter.detach() / config.members
    if config.members > 1 and total:
        put(total, {name: parameter.data for name, parameter in trained_parameters(trainers[0].network)})
    return Combined(trainers), courses


def _numbered(training: str, at: int) -> str:
    return training + (f"-{at}" if at else "")


def _trainer(
    start: Start, at: int, rows: Rows, validation: Rows | None, epochs: int, checkpoint: Checkpoint
) -> Trainer:
    """Make one member's trainer: with a seed of its own, which also draws first values where these may differ."""
    seeded = start.config.model_copy(update={"seed": start.config.seed_of(at)})
    if start.config.combine == "weights":
        return replace(start.trainer(rows, validation, epochs, checkpoint), config=seeded)
    earlier = start.earlier and start.earlier.member(at, start.config.members)
    return replace(start, config=seeded, earlier=earlier).trainer(rows, validation, epochs, checkpoint)
