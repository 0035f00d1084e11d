"""Nearest neighbours: of frozen embeddings, where validation chooses the size of the neighbourhood, or by gzip."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsRegressor

from ptec_training.calibrate.decisions import fit_decisions
from ptec_training.data.dataset import Examples
from ptec_training.evaluate.metrics import mean_average_precision
from ptec_training.fit.tfidf import log_odds
from ptec_training.methods.method import EmbeddingMethod, Learned, Method, Score, Task

_N_NEIGHBOURS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 100)


class Neighbours(EmbeddingMethod):
    """The share of a label among the nearest rows, weighted by the inverse of their distance."""

    method: Literal["knn"] = "knn"

    def learn(self, task: Task) -> Learned:
        """Choose the number of rows with the best mean average precision on validation."""

        def fit(rows: Examples, n: int) -> Score:
            regressor = KNeighborsRegressor(n, weights="distance", metric="cosine")
            regressor.fit(self.embed(rows.texts, task.template), rows.targets)
            return lambda texts: log_odds(regressor.predict(self.embed(texts, task.template)))

        def quality(n: int) -> float:
            return mean_average_precision(fit(task.train, n)(task.validation.texts), task.validation.targets)

        best = max((n for n in _N_NEIGHBOURS if n <= len(task.train)), key=quality)
        logits = fit(task.train, best)(task.validation.texts)
        decisions = fit_decisions(logits, task.validation.targets, np.zeros(len(task.names)))
        return Learned(fit(task.whole, best), decisions)


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
