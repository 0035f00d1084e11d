"""Nearest neighbours of frozen embeddings; validation chooses the size of the neighbourhood."""

from __future__ import annotations

from collections.abc import Sequence
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
from training.methods.embedding import EmbeddingMethod
from training.methods.method import Learned, Score, Task, learn_unweighted

_MIN_DISTANCE = 1e-6


class Neighbours(EmbeddingMethod):
    """The share of a label among the nearest rows, weighted by the inverse of their distance."""

    method: Literal["knn"] = "knn"

    sizes: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 2, 3, 5, 8, 13, 21, 34, 55, 100], min_length=1, description="numbers of neighbours to choose from"
    )

    def check(self, task: Task) -> None:
        """Refuse too few rows also.

        Raises:
            ConfigError: where all numbers of neighbours are larger than train.
        """
        super().check(task)
        if min(self.sizes) > len(task.train):
            raise ConfigError(f"one of sizes must be at most {len(task.train)}, the rows of train; were: {self.sizes}")

    def learn(self, task: Task) -> Learned:
        """Choose the number of neighbours with the best mean average precision on validation."""

        def quality(size: int) -> float:
            scores = self._fit(task.train, size, task.template)(task.validation.texts)
            return mean_average_precision(scores, task.validation.targets)

        best = max((size for size in self.sizes if size <= len(task.train)), key=quality)
        return learn_unweighted(lambda rows: self._fit(rows, best, task.template), task)

    def _fit(self, rows: Examples, size: int, template: str) -> Score:
        model = KNeighborsRegressor(n_neighbors=size, weights="distance", metric="cosine")
        model.fit(self.embed(rows.texts, template), rows.targets)
        return lambda texts: log_odds(model.predict(self.embed(texts, template)))


class Radius(EmbeddingMethod):
    """The share of a label among all rows within a distance; without any, the most frequent label."""

    method: Literal["radius"] = "radius"

    quantiles: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05],
        min_length=1,
        description="radii to choose from, as quantiles of the distances of pairs of rows",
    )

    def learn(self, task: Task) -> Learned:
        """Choose the radius with the best mean average precision on validation."""
        held_out, known = (self.embed(rows.texts, task.template) for rows in (task.validation, task.train))
        distances = pairwise_distances(held_out, known, metric="cosine")

        def quality(radius: float) -> float:
            return mean_average_precision(_within(distances, task.train.targets, radius), task.validation.targets)

        best = max(np.quantile(distances, self.quantiles).tolist(), key=quality)
        return learn_unweighted(lambda rows: self._fit(rows, best, task.template), task)

    def _fit(self, rows: Examples, radius: float, template: str) -> Score:
        known = self.embed(rows.texts, template)

        def score(texts: Sequence[str]) -> NDArray[np.floating]:
            distances = pairwise_distances(self.embed(texts, template), known, metric="cosine")
            return log_odds(_within(distances, rows.targets, radius))

        return score


def _within(distances: NDArray[np.floating], targets: NDArray[np.floating], radius: float) -> NDArray[np.floating]:
    """Return weighted shares of labels, *Shape:* ``(n_texts, n_labels)``, from distances ``(n_texts, n_rows)``."""
    weights = np.where(distances <= radius, 1 / np.maximum(distances, _MIN_DISTANCE), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    most_frequent = np.eye(targets.shape[1])[targets.sum(axis=0).argmax()]
    return np.where(total > 0, weights @ targets / np.maximum(total, _MIN_DISTANCE), most_frequent)
