"""Trained members that are one model: the mean of their logits, and TF-IDF where validation chose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptec_udf.log import logger
from ptec_udf.model.network import PtecNetwork
from training.data.dataset import Rows
from training.fit.inputs import TrainingInputs
from training.fit.tfidf import FittedTfidf
from training.fit.trainer import Trainer


@dataclass(frozen=True)
class Ensemble:
    """One or several trained members.

    Attributes:
        trainers: with the members' networks.
        tfidf: added to the mean of their logits.
    """

    trainers: list[Trainer]
    tfidf: FittedTfidf | None = None

    @property
    def networks(self) -> list[PtecNetwork]:
        """The members' networks."""
        return [trainer.network for trainer in self.trainers]

    @property
    def rows(self) -> Rows:
        """The training rows."""
        return self.trainers[0].rows

    @property
    def log_weights(self) -> np.ndarray:
        """Logarithms of the weights of positives, by which logits are shifted, *Shape:* ``(n_labels,)``."""
        of_network = self.trainers[0].log_weights
        return of_network if self.tfidf is None else of_network + self.tfidf.log_weights

    def logits(self, rows: Rows, *, bfloat16: bool | None = None) -> np.ndarray:
        """Score rows, *Shape:* ``(n_rows, n_labels)``; ``bfloat16`` None: as in training."""
        scored = [trainer.logits(rows, bfloat16=bfloat16) for trainer in self.trainers]
        of_network = scored[0] if len(scored) == 1 else np.mean(scored, axis=0)
        return of_network if self.tfidf is None else of_network + self.tfidf.logits(rows.texts)


def fit_ensemble(
    inputs: TrainingInputs, rows: Rows, validation: Rows | None, folder: Path, n_epochs: Sequence[int | None]
) -> Ensemble:
    """Train all members, with consecutive seeds.

    Args:
        inputs: of the run.
        rows: to learn from.
        validation: rows that decide when each member stops, or None.
        folder: keeps a checkpoint of each training.
        n_epochs: of each member; None: validation decides.

    Raises:
        TrainingError: if a training diverges.
    """
    trainers: list[Trainer] = []
    for at, n in enumerate(n_epochs):
        if len(n_epochs) > 1:
            logger.info(f"member {at + 1} of {len(n_epochs)}")
        seed = (inputs.config.seed + at) % 2**32
        trainers.append(Trainer(inputs, rows, validation, folder, seed=seed, n_epochs=n))
        trainers[-1].fit()
    return Ensemble(trainers)
