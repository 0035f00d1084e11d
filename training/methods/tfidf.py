"""Word and character statistics with a logistic regression for each label: the cheapest floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_union

from ptec_udf.errors import TrainingError
from training.data import Examples
from training.methods.logistic import fit_logistic
from training.methods.method import Fit, Learned, Method, Task, decided_on_tune


class Tfidf(Method):
    """TF-IDF of words and characters, and balanced logistic regressions."""

    method: Literal["tfidf"] = "tfidf"

    words: int = Field(2, ge=1, description="most words of a term")
    characters: int = Field(5, ge=2, description="most characters of a term inside a word; they begin at 2")
    inverse_penalty: float = Field(10.0, gt=0, description="less holds weights nearer to 0")

    def learn(self, task: Task) -> Learned:
        """Fit; nothing in it is random."""
        return decided_on_tune(self._fit, task)

    def _fit(self, rows: Examples) -> Fit:
        features = make_union(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, self.words), min_df=2),
            TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, self.characters), min_df=3),
        )
        try:
            known = features.fit_transform(rows.texts)
        except ValueError:  # scikit-learn's way to say that no term is left
            raise TrainingError(
                f"tfidf needs words that stand in at least 2 of its rows, found none in {len(rows)}; give more rows"
            ) from None
        positives = np.maximum(rows.targets.sum(axis=0, dtype=np.float64), 1.0)
        negatives = np.maximum(len(rows) - positives, 1.0)
        balanced = len(rows) / 2 / np.stack([negatives, positives], axis=1)
        options = {"C": self.inverse_penalty, "max_iter": 300, "solver": "liblinear"}
        weights, biases = fit_logistic(known, rows.targets, balanced, options)

        def score(texts: Sequence[str]) -> NDArray[np.floating]:
            return np.asarray(features.transform(texts) @ weights.T) + biases

        return Fit(score, log_weights=np.log(balanced[:, 1] / balanced[:, 0]))
