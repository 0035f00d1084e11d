"""TF-IDF of training texts with logistic regressions: a method of its own, or added to a network's logits.

A network of frozen features may miss a rare word that decides, and a linear model of words sees little else, so their
errors differ. Their logits are added with a weight that validation chooses.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ptec_udf.errors import TrainingError
from ptec_udf.log import logger
from ptec_udf.model.manifest import TfidfSpec
from ptec_udf.model.tfidf import Tfidf, character_ngrams, word_ngrams
from training.config import NgramConfig, TfidfSettings
from training.data.dataset import Examples
from training.evaluate.metrics import mean_average_precision
from training.fit.logistic import LinearModels, fit_logistic

# The dual problem is faster with more terms than rows; its solver shuffles rows.
SOLVER: dict[str, Any] = {"max_iter": 1000, "solver": "liblinear", "dual": True, "random_state": 0}

_MIN_ROWS_OF_WORDS, _MIN_ROWS_OF_CHARACTERS = 2, 3


@dataclass(frozen=True)
class FittedTfidf:
    """Regressions on TF-IDF whose logits are added to a network's.

    Attributes:
        terms: what they see.
        models: weights and biases, multiplied by the factor of the blend.
        log_weights: logarithms of the weights of positives against negatives, multiplied by the factor, *Shape:*
            ``(n_labels,)``.
    """

    vectorizer: Tfidf
    models: LinearModels
    log_weights: NDArray[np.float64]

    @classmethod
    def fit(cls, rows: Examples, spec: TfidfSpec, C: float, factor: float = 1.0) -> FittedTfidf:
        """Count terms in rows and fit a regression for each label.

        Raises:
            TrainingError: if no word is in two of the rows.
        """
        vectorizer, class_weights = fit_vectorizer(rows.texts, spec), balanced_weights(rows.targets)
        features = tfidf_matrix(vectorizer, rows.texts)
        models = fit_logistic(features, rows.targets, class_weights, {"C": C, **SOLVER})
        return cls(vectorizer, models, np.log(class_weights[:, 1] / class_weights[:, 0])).scaled(factor)

    def scaled(self, factor: float) -> FittedTfidf:
        """Return the head with logits multiplied by a factor."""
        models = LinearModels(factor * self.models.weights, factor * self.models.biases)
        return FittedTfidf(self.vectorizer, models, factor * self.log_weights)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return logits, *Shape:* ``(n_texts, n_labels)``."""
        return self.models.logits(tfidf_matrix(self.vectorizer, texts))


class TfidfBlend:
    """Chooses by validation whether and how TF-IDF is added to a network.

    Attributes:
        report: what was tried and chosen, JSON-ready; None before.
        seconds: time of all fits.
    """

    def __init__(self, settings: TfidfSettings) -> None:
        """Take the values to try."""
        self.settings, self.spec = settings, ngram_spec(settings)
        self.report: dict[str, Any] | None = None
        self.seconds = 0.0
        self._chosen: tuple[float, float] | None = None  # C and factor

    def choose(self, network_logits: NDArray[np.floating], validation: Examples, train: Examples) -> FittedTfidf | None:
        """Fit regressions to train, and choose C and blend weight by mean average precision on validation.

        Args:
            network_logits: of validation, *Shape:* ``(n_validation, n_labels)``.
            validation: rows to choose by.
            train: rows to fit to.

        Returns:
            The best head; None if the network alone is best.
        """
        started = time.monotonic()
        network_map = best = round(mean_average_precision(network_logits, validation.targets), 6)
        values, best_head = {"network": network_map}, None
        for C in self.settings.C:
            head = FittedTfidf.fit(train, self.spec, C)
            logits = head.logits(validation.texts)
            for weight in self.settings.blend_weights:
                factor = float(weight * network_logits.std() / logits.std())
                value = round(mean_average_precision(network_logits + factor * logits, validation.targets), 6)
                values[f"C {C:g}, blend weight {weight:g}"] = value
                if value > best:
                    best, best_head, self._chosen = value, head.scaled(factor), (C, factor)
        logger.info(f"TF-IDF: mAP on validation {best:.4f}, of the network alone {network_map:.4f}")
        self.report = {"map": values, **dict(zip(("C", "factor"), self._chosen or (None, None), strict=True))}
        self.seconds += time.monotonic() - started
        return best_head

    def refit(self, rows: Examples) -> FittedTfidf | None:
        """Fit the chosen head to other rows."""
        if self._chosen is None:
            return None
        started = time.monotonic()
        head = FittedTfidf.fit(rows, self.spec, *self._chosen)
        self.seconds += time.monotonic() - started
        return head


def ngram_spec(config: NgramConfig) -> TfidfSpec:
    """Describe n-grams for the manifest."""
    return TfidfSpec(words=config.max_word_ngram, characters=config.max_char_ngram)


def balanced_weights(targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return class weights that make negatives and positives of a label count equally, *Shape:* ``(n_labels, 2)``."""
    positives = np.maximum(targets.sum(axis=0, dtype=np.float64), 1.0)
    negatives = np.maximum(len(targets) - positives, 1.0)
    return len(targets) / 2 / np.stack([negatives, positives], axis=1)


def fit_vectorizer(texts: Sequence[str], spec: TfidfSpec) -> Tfidf:
    """Select terms that are in several of the texts, in alphabetical order.

    Raises:
        TrainingError: if no word is.
    """
    of_words, of_characters = Counter[str](), Counter[str]()
    for text in map(str.lower, texts):
        of_words.update(set(word_ngrams(text, spec.words)))
        of_characters.update({run for word in set(text.split()) for run in character_ngrams(word, spec.characters)})
    words = _frequent(of_words, _MIN_ROWS_OF_WORDS)
    if not words:
        raise TrainingError(
            f"TF-IDF needs words that are in at least {_MIN_ROWS_OF_WORDS} rows, found none in {len(texts)}; add rows"
        )
    return Tfidf(spec, len(texts), words, _frequent(of_characters, _MIN_ROWS_OF_CHARACTERS))


def tfidf_matrix(vectorizer: Tfidf, texts: Iterable[str]) -> csr_array:
    """Return the TF-IDF values of texts, *Shape:* ``(n_texts, n_terms)``."""
    found = [vectorizer.features(text) for text in texts]
    ends = np.cumsum([0, *(len(positions) for positions, _ in found)])
    positions, values = (np.concatenate(part) for part in zip(*found, strict=True))
    return csr_array((values, positions.astype(np.int32), ends.astype(np.int32)), shape=(len(found), len(vectorizer)))


def _frequent(counts: Counter[str], min_rows: int) -> dict[str, int]:
    return {term: count for term, count in sorted(counts.items()) if count >= min_rows}
