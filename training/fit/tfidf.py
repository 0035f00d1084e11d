"""TF-IDF of training texts with logistic regressions: a method of its own, or added to a network's logits.

A network of frozen features may miss a rare word that decides, and a linear model of words sees little else, so their
errors differ. Their logits are added with a weight that validation chooses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from ptec_training.data.dataset import Examples
from ptec_training.evaluate.metrics import mean_average_precision
from ptec_udf.errors import TrainingError
from ptec_udf.log import logger
from ptec_udf.model.manifest import TfidfSpec
from ptec_udf.model.tfidf import Tfidf, character_ngrams, word_ngrams

# The dual problem is faster with more terms than rows; its solver shuffles rows.
SOLVER: dict[str, Any] = {"max_iter": 1000, "solver": "liblinear", "dual": True, "random_state": 0}

_SPEC = TfidfSpec(words=2, characters=5)
_MIN_ROWS_OF_WORDS, _MIN_ROWS_OF_CHARACTERS = 2, 3
_MIN_SHARE = 1e-5


class LinearModels(NamedTuple):
    """Weights, *Shape:* ``(n_labels, n_features)``, and biases, *Shape:* ``(n_labels,)``, of all labels."""

    weights: NDArray[np.float64]
    biases: NDArray[np.float64]

    def logits(self, features: Any) -> NDArray[np.float64]:
        """Return logits of dense or sparse features, *Shape:* ``(n_rows, n_labels)``."""
        return np.asarray(features @ self.weights.T) + self.biases


def fit_logistic(
    features: Any, targets: NDArray[np.floating], class_weights: NDArray[np.floating], options: dict[str, Any]
) -> LinearModels:
    """Fit scikit-learn's ``LogisticRegression`` to each label; a label that no row has, or every row, gets a constant.

    Features, dense or sparse, have *Shape:* ``(n_rows, n_features)``, targets ``(n_rows, n_labels)``, and weights of
    negatives and positives ``(n_labels, 2)``.
    """
    n_labels = targets.shape[1]
    weights, biases = np.zeros((n_labels, features.shape[1])), log_odds(targets.mean(axis=0))
    for label in range(n_labels):
        column = targets[:, label].astype(int)
        if 0 < column.sum() < len(column):
            class_weight = dict(enumerate(class_weights[label]))
            model = LogisticRegression(class_weight=class_weight, **options).fit(features, column)
            weights[label], biases[label] = model.coef_[0], model.intercept_[0]
    return LinearModels(weights, biases)


def log_odds(shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn shares from 0 to 1, both included, into finite log-odds."""
    return np.asarray(logit(np.clip(np.asarray(shares, np.float64), _MIN_SHARE, 1 - _MIN_SHARE)))


@dataclass(frozen=True)
class FittedTfidf:
    """Regressions on TF-IDF, and the log weights of positives against negatives, *Shape:* ``(n_labels,)``."""

    vectorizer: Tfidf
    models: LinearModels
    log_weights: NDArray[np.float64]

    @classmethod
    def fit(cls, rows: Examples, C: float) -> FittedTfidf:
        """Count terms and fit balanced regressions; raise a TrainingError if no word is in two of the rows."""
        vectorizer, n_rows = _fit_vectorizer(rows.texts), len(rows)
        positives = np.maximum(rows.targets.sum(axis=0, dtype=np.float64), 1.0)
        negatives = np.maximum(n_rows - positives, 1.0)
        class_weights = n_rows / 2 / np.stack([negatives, positives], axis=1)
        models = fit_logistic(_matrix(vectorizer, rows.texts), rows.targets, class_weights, {"C": C, **SOLVER})
        return cls(vectorizer, models, np.log(class_weights[:, 1] / class_weights[:, 0]))

    def scaled(self, factor: float) -> FittedTfidf:
        """Return the regressions with logits multiplied by a factor."""
        models = LinearModels(factor * self.models.weights, factor * self.models.biases)
        return FittedTfidf(self.vectorizer, models, factor * self.log_weights)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return logits, *Shape:* ``(n_texts, n_labels)``."""
        return self.models.logits(_matrix(self.vectorizer, texts))


def choose_factor(
    network: NDArray[np.floating], tfidf: NDArray[np.floating], targets: NDArray[np.floating], weights: Sequence[float]
) -> float:
    """Choose the factor of TF-IDF's logits by mean average precision; 0 if the network alone is best.

    ``weights`` are deviations of the added logits to try, in units of the network's.
    """
    factors = [0.0, *(float(weight * network.std() / tfidf.std()) for weight in weights)]
    quality = [round(mean_average_precision(network + factor * tfidf, targets), 6) for factor in factors]
    best = int(np.argmax(quality))
    logger.info(f"TF-IDF: mAP on validation {quality[best]:.4f}, of the network alone {quality[0]:.4f}")
    return factors[best]


def _fit_vectorizer(texts: Sequence[str]) -> Tfidf:
    """Select terms that are in several of the texts, in alphabetical order."""
    of_words, of_characters = Counter[str](), Counter[str]()
    for text in map(str.lower, texts):
        of_words.update(set(word_ngrams(text, _SPEC.words)))
        of_characters.update({run for word in set(text.split()) for run in character_ngrams(word, _SPEC.characters)})
    words = _frequent(of_words, _MIN_ROWS_OF_WORDS)
    if not words:
        raise TrainingError(
            f"TF-IDF needs words that are in at least {_MIN_ROWS_OF_WORDS} rows, found none in {len(texts)}; add rows"
        )
    return Tfidf(_SPEC, len(texts), words, _frequent(of_characters, _MIN_ROWS_OF_CHARACTERS))


def _matrix(vectorizer: Tfidf, texts: Iterable[str]) -> csr_array:
    """Return the TF-IDF values of texts, *Shape:* ``(n_texts, n_terms)``."""
    found = [vectorizer.features(text) for text in texts]
    ends = np.cumsum([0, *(len(positions) for positions, _ in found)])
    positions, values = (np.concatenate(part) for part in zip(*found, strict=True))
    return csr_array((values, positions.astype(np.int32), ends.astype(np.int32)), shape=(len(found), len(vectorizer)))


def _frequent(counts: Counter[str], min_rows: int) -> dict[str, int]:
    return {term: count for term, count in sorted(counts.items()) if count >= min_rows}
