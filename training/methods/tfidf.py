"""Word and character statistics with a logistic regression for each label: the cheapest floor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from ptec_udf.errors import TrainingError
from ptec_udf.model.artifact import TERMS
from ptec_udf.model.manifest import TermsForm
from ptec_udf.model.terms import LEAST_CHARACTERS, Terms, runs_of_characters, runs_of_words
from training.data import Examples
from training.methods.linear import Basis, Linear, Penalties

_LEAST_ROWS_OF_WORDS, _LEAST_ROWS_OF_CHARACTERS = 2, 3


class Tfidf(Linear):
    """TF-IDF of words and characters, and balanced logistic regressions."""

    # The dual is the quicker one where terms are many more than rows; its order of rows is drawn.
    solver: ClassVar[dict[str, Any]] = {"max_iter": 1000, "solver": "liblinear", "dual": True, "random_state": 0}

    method: Literal["tfidf"] = "tfidf"

    words: int = Field(2, ge=1, description="most words of a term")
    characters: int = Field(
        5, ge=LEAST_CHARACTERS, description="most characters of a term inside a word; they begin at 2"
    )
    inverse_penalty: Penalties = Field(
        [1.0, 3.0, 10.0, 30.0, 100.0], description="one, or several to choose from; less holds weights nearer to 0"
    )

    def basis(self, rows: Examples) -> Basis:
        """Count terms in these rows."""
        terms = count_terms(rows.texts, TermsForm(words=self.words, characters=self.characters))
        positives = np.maximum(rows.targets.sum(axis=0, dtype=np.float64), 1.0)
        negatives = np.maximum(len(rows) - positives, 1.0)
        return Basis(
            features=lambda texts: sparse_features(terms, texts),
            class_weights=len(rows) / 2 / np.stack([negatives, positives], axis=1),
            fields={"terms": terms.form},
            files={TERMS: terms.to_json()},
        )


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
            f"tfidf needs words that stand in at least {_LEAST_ROWS_OF_WORDS} of its rows, found none in {len(texts)}; "
            "give more rows"
        )
    return Terms(form, len(texts), words, _frequent(of_characters, _LEAST_ROWS_OF_CHARACTERS))


def sparse_features(terms: Terms, texts: Iterable[str]) -> csr_array:
    """Lay the terms of texts out as a matrix, *Shape:* ``(n_texts, n_terms)``."""
    found = [terms.features(text) for text in texts]
    ends = np.cumsum([0, *(len(positions) for positions, _ in found)])
    positions, values = (np.concatenate(part) for part in zip(*found, strict=True))
    return csr_array((values, positions.astype(np.int32), ends.astype(np.int32)), shape=(len(found), len(terms)))


def _frequent(counts: Counter[str], least: int) -> dict[str, int]:
    return {term: count for term, count in sorted(counts.items()) if count >= least}
