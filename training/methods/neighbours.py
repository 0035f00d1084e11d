"""Nearest neighbours: of frozen embeddings, where validation chooses the size of the neighbourhood, or by gzip."""

from __future__ import annotations

import warnings
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsRegressor, RadiusNeighborsRegressor

from training.calibrate.decisions import fit_decisions
from training.data.dataset import Examples
from training.evaluate.metrics import mean_average_precision
from training.fit.tfidf import log_odds
from training.methods.method import EmbeddingMethod, Learned, Method, Score, Task

_N_NEIGHBOURS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 100)
_QUANTILES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
_OPTIONS = {"weights": "distance", "metric": "cosine"}


class _NearestRows(EmbeddingMethod):
    """The share of a label among near rows, weighted by the inverse of their distance."""

    @abstractmethod
    def regressors(self, task: Task) -> list[Any]:
        """Return scikit-learn's regressors to choose from."""

    def learn(self, task: Task) -> Learned:
        """Choose the regressor with the best mean average precision on validation."""

        def fit(rows: Examples, regressor: Any) -> Score:
            regressor.fit(self.embed(rows.texts, task.template), rows.targets)
            frequent = np.eye(len(task.names))[rows.targets.sum(axis=0).argmax()]

            def score(texts: Sequence[str]) -> NDArray[np.floating]:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # a text without neighbours, whose shares are NaN
                    shares = regressor.predict(self.embed(texts, task.template))
                return log_odds(np.where(np.isnan(shares), frequent, shares))

            return score

        def quality(regressor: Any) -> float:
            return mean_average_precision(fit(task.train, regressor)(task.validation.texts), task.validation.targets)

        best = max(self.regressors(task), key=quality)
        logits = fit(task.train, best)(task.validation.texts)
        decisions = fit_decisions(logits, task.validation.targets, np.zeros(len(task.names)))
        return Learned(fit(task.whole, best), decisions)


class Neighbours(_NearestRows):
    """A number of nearest rows."""

    method: Literal["knn"] = "knn"

    def regressors(self, task: Task) -> list[Any]:
        """Vary the number of rows."""
        return [KNeighborsRegressor(n, **_OPTIONS) for n in _N_NEIGHBOURS if n <= len(task.train)]


class Radius(_NearestRows):
    """All rows within a distance; without any, the most frequent label."""

    method: Literal["radius"] = "radius"

    def regressors(self, task: Task) -> list[Any]:
        """Vary the radius, by quantiles of the distances between validation and train."""
        pair = (self.embed(rows.texts, task.template) for rows in (task.validation, task.train))
        distances = pairwise_distances(*pair, metric="cosine")
        return [RadiusNeighborsRegressor(radius, **_OPTIONS) for radius in np.quantile(distances, _QUANTILES)]


class Compression(Method):
    """One neighbour, whose labels are copied: texts are alike that compress well together (Jiang et al., ACL 2023)."""

    method: Literal["gzip"] = "gzip"

    def learn(self, task: Task) -> Learned:
        """Keep all rows."""
        known, targets = [text.encode() for text in task.whole.texts], task.whole.targets
        lengths = np.array([_length(text) for text in known])

        def nearest(text: bytes) -> int:
            alone = _length(text)
            together = np.array([_length(text + b" " + other) for other in known])
            return int(np.argmin((together - np.minimum(alone, lengths)) / np.maximum(alone, lengths)))

        def score(texts: Sequence[str]) -> NDArray[np.floating]:
            return targets[[nearest(text.encode()) for text in texts]]

        return Learned(score, decisions=None)


def _length(text: bytes) -> int:
    return len(zlib.compress(text, 9, -zlib.MAX_WBITS))  # a gzip file without its constant head and tail
