"""TF-IDF of training texts, and logistic regressions on it: a method by itself, or added to a network's logits.

A network of frozen features may miss what a rare word says at once. A linear model of words sees little else, so the
two err on other rows. Their logits are added, the latter times a factor that tune chooses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ptec_udf.errors import TrainingError
from ptec_udf.model.manifest import TermsForm
from ptec_udf.model.terms import Terms, runs_of_characters, runs_of_words
from ptec_udf.progress import say
from training.args import TermsSettings
from training.data import Rows
from training.logistic import Lines, fit_logistic
from training.metrics import mean_average_precision

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
        penalty: inverse penalty that tune chose.
        factor: that tune chose; 0 adds nothing.
        quality: mean average precision on tune, by what was tried.
        flop: floating-point operations of all fits.
    """

    terms: Terms
    lines: Lines
    log_weights: NDArray[np.float64]
    penalty: float
    factor: float
    quality: dict[str, float]
    flop: float

    @property
    def chosen(self) -> dict[str, Any]:
        """What tune chose and by which figures, ready for JSON."""
        return {"inverse_penalty": self.penalty, "factor": self.factor, "map": self.quality}

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return what is added, *Shape:* ``(n_texts, n_labels)``."""
        return np.asarray(sparse_features(self.terms, texts) @ self.lines.weights.T) + self.lines.biases

    def fitted_to(self, rows: Rows) -> Beside:
        """Fit the same anew to other rows, as they are counted there."""
        fitted = _fitted(self.terms.form, rows, self.penalty, self.factor)
        return replace(fitted, quality=self.quality, flop=self.flop + fitted.flop)


def beside(settings: TermsSettings, train: Rows, tune: Rows, network: NDArray[np.floating]) -> Beside:
    """Fit regressions to train; let tune choose their penalty and how much they count beside the network.

    Args:
        settings: what to try.
        train: rows to fit to.
        tune: rows to choose by.
        network: logits that the network gives tune, *Shape:* ``(n_tune, n_labels)``.

    Raises:
        TrainingError: when no word stands in two of the rows.
    """
    form = TermsForm(words=settings.words, characters=settings.characters)
    alone = round(mean_average_precision(network, tune.targets), 6)
    quality, flop = {"0": alone}, 0.0
    best = (alone, settings.inverse_penalty[0], 0.0)
    for penalty in settings.inverse_penalty:
        tried = _fitted(form, train, penalty, 1.0)
        logits, flop = tried.logits(tune.texts), flop + tried.flop
        for share in settings.shares:
            factor = float(share * network.std() / logits.std())
            value = round(mean_average_precision(network + factor * logits, tune.targets), 6)
            quality[f"share {share:g}, inverse penalty {penalty:g}"] = value
            best = max(best, (value, penalty, factor), key=lambda found: found[0])
    say(f"words beside the network: mAP on tune {best[0]:.4f}, without them {alone:.4f}")
    return replace(_fitted(form, train, best[1], best[2]), quality=quality, flop=flop)


def balanced(targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return weights under which negatives and positives of a label count alike, *Shape:* ``(n_labels, 2)``."""
    positives = np.maximum(targets.sum(axis=0, dtype=np.float64), 1.0)
    negatives = np.maximum(len(targets) - positives, 1.0)
    return len(targets) / 2 / np.stack([negatives, positives], axis=1)


def count_terms(texts: Sequence[str], form: TermsForm) -> Terms:
    """Keep terms that stand in several of the texts, in alphabetic order.

    Raises:
        TrainingError: when no word does.
    """
    of_words, of_characters = Counter[str](), Counter[str]()
    for text in map(str.lower, texts):
        of_words.update(set(runs_of_words(text, form.words)))
        of_characters.update({run for word in set(text.split()) for run in runs_of_characters(word, form.characters)})
    words = _frequent(of_words, _LEAST_ROWS_OF_WORDS)
    if not words:
        raise TrainingError(
            f"terms need words that stand in at least {_LEAST_ROWS_OF_WORDS} of the rows, found none in {len(texts)}; "
            "give more rows"
        )
    return Terms(form, len(texts), words, _frequent(of_characters, _LEAST_ROWS_OF_CHARACTERS))


def sparse_features(terms: Terms, texts: Iterable[str]) -> csr_array:
    """Lay the terms of texts out as a matrix, *Shape:* ``(n_texts, n_terms)``."""
    found = [terms.features(text) for text in texts]
    ends = np.cumsum([0, *(len(positions) for positions, _ in found)])
    positions, values = (np.concatenate(part) for part in zip(*found, strict=True))
    return csr_array((values, positions.astype(np.int32), ends.astype(np.int32)), shape=(len(found), len(terms)))


def _fitted(form: TermsForm, rows: Rows, penalty: float, factor: float) -> Beside:
    """Count the terms of rows and fit a regression for each label."""
    terms, weights = count_terms(rows.texts, form), balanced(rows.targets)
    lines = fit_logistic(sparse_features(terms, rows.texts), rows.targets, weights, {"C": penalty, **SOLVER})
    return Beside(
        terms=terms,
        lines=Lines(factor * lines.weights, factor * lines.biases, lines.flop),
        log_weights=factor * np.log(weights[:, 1] / weights[:, 0]),
        penalty=penalty,
        factor=factor,
        quality={},
        flop=lines.flop,
    )


def _frequent(counts: Counter[str], least: int) -> dict[str, int]:
    return {term: count for term, count in sorted(counts.items()) if count >= least}
