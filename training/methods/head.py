"""A classification head on frozen embeddings: PTEC without its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.preprocessing import StandardScaler

from training.args import PositiveWeights
from training.data import Examples
from training.head import LEAST_SHARE_OF_MEDIAN_DEVIATION
from training.loss import positive_weights
from training.methods.embedding import OnEmbeddings
from training.methods.logistic import fit_logistic
from training.methods.method import Fit, Learned, Task, decided_on_tune


class Head(OnEmbeddings):
    """A linear layer with PTEC's weights of positives; fitted to the minimum, so no seed matters."""

    method: Literal["head"] = "head"

    inverse_penalty: float = Field(0.01, gt=0, description="less holds weights nearer to 0")
    loss: PositiveWeights = PositiveWeights()

    def learn(self, task: Task) -> Learned:
        """Fit one logistic regression per label on standardised embeddings."""
        return decided_on_tune(self._fit, task)

    def _fit(self, rows: Examples) -> Fit:
        embeddings = self.embed(rows.texts)
        scaler = StandardScaler().fit(embeddings)
        scaler.scale_ = np.maximum(scaler.scale_, LEAST_SHARE_OF_MEDIAN_DEVIATION * np.median(scaler.scale_))
        of_positives = positive_weights(rows.targets, self.loss)
        class_weights = np.stack([np.ones_like(of_positives), of_positives], axis=1)
        options = {"C": self.inverse_penalty, "max_iter": 500}
        weights, biases = fit_logistic(scaler.transform(embeddings), rows.targets, class_weights, options)

        def score(texts: Sequence[str]) -> NDArray[np.floating]:
            return scaler.transform(self.embed(texts)) @ weights.T + biases

        return Fit(score, log_weights=np.log(of_positives))
