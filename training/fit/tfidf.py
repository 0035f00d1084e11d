"""TF-IDF of training texts, and logistic regressions on it: a method by itself, or added to a network's logits.

A network of frozen features may miss what a rare word says at once. A linear model of words sees little else, so the
two err on other rows. Their logits are added, the latter times a factor that validation chooses.
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
from training.config import TermsSettings
from training.data.dataset import Rows
from training.evaluate.metrics import mean_average_precision
from training.fit.logistic import Lines, fit_logistic

# The dual is the quicker one where terms are many more than rows; its order of rows is drawn.
SOLVER: dict[str, Any] = {"max_iter": 1000, "solver": "liblinear", "dual": True, "random_state": 0}

_LEAST_ROWS_OF_WORDS, _LEAST_ROWS_OF_CHARACTERS = 2, 3


@dataclass(frozen=True)
class Beside:
    """Regressions on terms that are added to a network's logits.

    Attributes:
        terms: what they see.
        lines: weights and biases, the factor in them.
        log_weights: logarithms of the weights of positives against negatives, times the factor, *Shape:*
            ``(n_labels,)``.
    """

    terms: Tfidf
    lines: Lines
    log_weights: NDArray[np.float64]

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return what is added, *Shape:* ``(n_texts, n_labels)``."""
        return np.asarray(sparse_features(self.terms, texts) @ self.lines.weights.T) + self.lines.biases


class Words:
    """Chooses by validation what is added, if anything is, and fits it.

    Attributes:
        report: what was tried and chosen, by the name ``terms``, ready for JSON; empty where nothing was asked for.
        flop: floating-point operations of all fits.
        seconds: what they took.
    """

    def __init__(self, settings: TermsSettings | None) -> None:
        """Take what to try; None adds nothing."""
        self.settings = settings
        self.report: dict[str, Any] = {}
        self.flop = self.seconds = 0.0
        self._chosen: tuple[float, float] | None = None  # inverse penalty and factor

    def chosen_by(self, validation: Rows, network: NDArray[np.floating], train: Rows) -> Beside | None:
        """Fit regressions to train; let validation choose their penalty and how much they count beside the network.

        Args:
            validation: rows to choose by.
            network: logits that the network gives them, *Shape:* ``(n_validation, n_labels)``.
            train: rows to fit to.

        Returns:
            What is best to add; None where nothing is.

        Raises:
            TrainingError: when no word stands in two of the rows.
        """
        if self.settings is None:
            return None
        alone = best = round(mean_average_precision(network, validation.targets), 6)
        quality, fits = {"none": alone}, self._fits(train)
        for penalty in self.settings.inverse_penalty:
            logits = fits.beside(penalty).logits(validation.texts)
            for share in self.settings.shares:
                factor = float(share * network.std() / logits.std())
                value = round(mean_average_precision(network + factor * logits, validation.targets), 6)
                quality[f"share {share:g}, inverse penalty {penalty:g}"] = value
                if value > best:
                    best, self._chosen = value, (penalty, factor)
        logger.info(f"words beside the network: mAP on validation {best:.4f}, without them {alone:.4f}")
        chosen = dict(zip(("inverse_penalty", "factor"), self._chosen or (None, None), strict=True))
        self.report = {"terms": {"map": quality, **chosen}}
        self._count(fits)
        return None if self._chosen is None else fits.beside(*self._chosen)

    def fitted_to(self, rows: Rows) -> Beside | None:
        """Fit what was chosen to rows, as terms are counted there."""
        if self._chosen is None:
            return None
        fits = self._fits(rows)
        beside = fits.beside(*self._chosen)
        self._count(fits)
        return beside

    def _fits(self, rows: Rows) -> _Fits:
        assert self.settings is not None
        return _Fits(rows, TfidfSpec(words=self.settings.words, characters=self.settings.characters))

    def _count(self, fits: _Fits) -> None:
        self.flop += fits.flop
        self.seconds += fits.seconds


class _Fits:
    """Regressions on the terms of some rows, each fitted once; ``flop`` and ``seconds`` are what they took."""

    def __init__(self, rows: Rows, form: TfidfSpec) -> None:
        """Count the terms."""
        started = time.monotonic()
        self.rows, self.terms = rows, count_terms(rows.texts, form)
        self.features, self.weights = sparse_features(self.terms, rows.texts), balanced(rows.targets)
        self._lines: dict[float, Lines] = {}
        self.flop, self.seconds = 0.0, time.monotonic() - started

    def beside(self, penalty: float, factor: float = 1.0) -> Beside:
        """Fit a regression for each label, with this inverse penalty; return it times the factor."""
        if penalty not in self._lines:
            started = time.monotonic()
            self._lines[penalty] = fit_logistic(
                self.features, self.rows.targets, self.weights, {"C": penalty, **SOLVER}
            )
            self.flop += self._lines[penalty].flop
            self.seconds += time.monotonic() - started
        lines = self._lines[penalty]
        scaled = Lines(factor * lines.weights, factor * lines.biases, lines.flop)
        return Beside(self.terms, scaled, factor * np.log(self.weights[:, 1] / self.weights[:, 0]))


def balanced(targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return weights under which negatives and positives of a label count alike, *Shape:* ``(n_labels, 2)``."""
    positives = np.maximum(targets.sum(axis=0, dtype=np.float64), 1.0)
    negatives = np.maximum(len(targets) - positives, 1.0)
    return len(targets) / 2 / np.stack([negatives, positives], axis=1)


def count_terms(texts: Sequence[str], form: TfidfSpec) -> Tfidf:
    """Keep terms that stand in several of the texts, in alphabetic order.

    Raises:
        TrainingError: when no word does.
    """
    of_words, of_characters = Counter[str](), Counter[str]()
    for text in map(str.lower, texts):
        of_words.update(set(word_ngrams(text, form.words)))
        of_characters.update({run for word in set(text.split()) for run in character_ngrams(word, form.characters)})
    words = _frequent(of_words, _LEAST_ROWS_OF_WORDS)
    if not words:
        raise TrainingError(
            f"terms need words that stand in at least {_LEAST_ROWS_OF_WORDS} of the rows, found none in {len(texts)}; "
            "give more rows"
        )
    return Tfidf(form, len(texts), words, _frequent(of_characters, _LEAST_ROWS_OF_CHARACTERS))


def sparse_features(terms: Tfidf, texts: Iterable[str]) -> csr_array:
    """Lay the terms of texts out as a matrix, *Shape:* ``(n_texts, n_terms)``."""
    found = [terms.features(text) for text in texts]
    ends = np.cumsum([0, *(len(positions) for positions, _ in found)])
    positions, values = (np.concatenate(part) for part in zip(*found, strict=True))
    return csr_array((values, positions.astype(np.int32), ends.astype(np.int32)), shape=(len(found), len(terms)))


def _frequent(counts: Counter[str], least: int) -> dict[str, int]:
    return {term: count for term, count in sorted(counts.items()) if count >= least}
