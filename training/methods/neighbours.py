"""Nearest neighbours of frozen embeddings; the size of the neighbourhood is chosen on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsRegressor

from ptec_udf.errors import ConfigError
from training.data.dataset import Examples
from training.evaluate.metrics import mean_average_precision
from training.fit.logistic import log_odds
from training.methods.embedding import OnEmbeddings
from training.methods.method import Fit, Learned, Task, decided_on_validation

_LEAST_DISTANCE = 1e-6


class Neighbours(OnEmbeddings):
    """Share of a label among the nearest rows, weighted by the inverse of their distance."""

    method: Literal["knn"] = "knn"

    sizes: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 2, 3, 5, 8, 13, 21, 34, 55, 100], min_length=1, description="numbers to choose from"
    )

    def check(self, task: Task) -> None:
        """Refuse too few rows also.

        Raises:
            ConfigError: where all numbers of neighbours are larger than train.
        """
        super().check(task)
        if not self._possible(task):
            raise ConfigError(f"one of sizes must be at most {len(task.train)}, the rows of train; were: {self.sizes}")

    def learn(self, task: Task) -> Learned:
        """Take the number of neighbours with the best mean average precision on validation."""
        sizes = self._possible(task)

        def quality(size: int) -> float:
            scores = self._fit(task.train, size, task.template).score(task.validation.texts)
            return mean_average_precision(scores, task.validation.targets)

        best = max(sizes, key=quality)
        return _with_cost(decided_on_validation(lambda rows: self._fit(rows, best, task.template), task), self, task)

    def _possible(self, task: Task) -> list[int]:
        return [size for size in self.sizes if size <= len(task.train)]

    def _fit(self, rows: Examples, size: int, template: str) -> Fit:
        model = KNeighborsRegressor(n_neighbors=size, weights="distance", metric="cosine")
        model.fit(self.embed(rows.texts, template), rows.targets)
        return Fit(lambda texts: log_odds(model.predict(self.embed(texts, template))), _no_weights(rows))


class Radius(OnEmbeddings):
    """Share of a label among all rows within a distance; where there are none, the most frequent label."""

    method: Literal["radius"] = "radius"

    shares: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05],
        min_length=1,
        description="radii to choose from, as the share of pairs of rows that are nearer",
    )

    def learn(self, task: Task) -> Learned:
        """Take the radius with the best mean average precision on validation."""
        held_out, known = (self.embed(rows.texts, task.template) for rows in (task.validation, task.train))
        distances = pairwise_distances(held_out, known, metric="cosine")
        radii = np.quantile(distances, self.shares)
        quality = [
            mean_average_precision(_within(distances, task.train.targets, radius), task.validation.targets)
            for radius in radii
        ]
        best = float(radii[int(np.argmax(quality))])
        return _with_cost(decided_on_validation(lambda rows: self._fit(rows, best, task.template), task), self, task)

    def _fit(self, rows: Examples, radius: float, template: str) -> Fit:
        known = self.embed(rows.texts, template)

        def score(texts: Sequence[str]) -> NDArray[np.floating]:
            distances = pairwise_distances(self.embed(texts, template), known, metric="cosine")
            return log_odds(_within(distances, rows.targets, radius))

        return Fit(score, _no_weights(rows))


def _with_cost(learned: Learned, method: OnEmbeddings, task: Task) -> Learned:
    """Count one pass of the backbone for each text, and once its distances to all rows that it is compared with."""
    known, width = task.whole, method.embed(task.validation.texts[:1], task.template).shape[1]

    def flop(texts: Sequence[str], n_distances: int) -> float:
        return method.flop_of_embedding(texts, task.template) + 2.0 * width * n_distances

    return replace(
        learned,
        flop=flop(known.texts, len(task.train) * len(task.validation)),
        flop_of_scoring=lambda texts: flop(texts, len(known) * len(texts)),
    )


def _no_weights(rows: Examples) -> NDArray[np.float64]:
    """Neighbours count as they are."""
    return np.zeros(rows.targets.shape[1])


def _within(distances: NDArray[np.floating], targets: NDArray[np.floating], radius: float) -> NDArray[np.floating]:
    """Weighted shares of labels, *Shape:* ``(n_texts, n_labels)``, from distances ``(n_texts, n_rows)``."""
    weights = np.where(distances <= radius, 1 / np.maximum(distances, _LEAST_DISTANCE), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    most_frequent = np.eye(targets.shape[1])[targets.sum(axis=0).argmax()]
    return np.where(total > 0, weights @ targets / np.maximum(total, _LEAST_DISTANCE), most_frequent)
