"""TF-IDF of n-grams of words, and of characters inside words.

The values of scikit-learn's ``TfidfVectorizer`` with ``sublinear_tf``, which executors do not have: a term that
occurs ``n`` times has ``(1 + ln n) * (1 + ln((1 + rows) / (1 + rows with the term)))``; words and characters are
normalised to length 1 separately. Source: Salton and Buckley, "Term-weighting approaches in automatic text retrieval",
Information Processing & Management 24 (1988).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.model.manifest import TfidfSpec

_WORD = re.compile(r"\b\w\w+\b")
_MAX_CACHED_WORDS = 100_000
_MAX_CACHED_LENGTH = 30  # characters; longer words rarely repeat


class Tfidf:
    """The terms of a model, in the order of its weights: words first, then characters."""

    def __init__(self, form: TfidfSpec, rows: int, words: Mapping[str, int], characters: Mapping[str, int]) -> None:
        """Take the number of training rows, and for each n-gram the number of rows that contain it."""
        self.form, self.rows, self.words, self.characters = form, rows, words, characters
        self._word_index = {term: at for at, term in enumerate(words)}
        self._character_index = {term: at for at, term in enumerate(characters, start=len(words))}
        counts = np.array([*words.values(), *characters.values()], np.float64)
        self._idf = np.log((1 + rows) / (1 + counts)) + 1
        self._cached_terms = lru_cache(_MAX_CACHED_WORDS)(self._terms_inside)

    def __len__(self) -> int:
        return len(self._idf)

    @classmethod
    def from_json(cls, data: bytes, form: TfidfSpec) -> Tfidf:
        """Read what ``to_json`` wrote."""
        return cls(form, **json.loads(data))

    def to_json(self) -> bytes:
        """Write everything except the form, which is in the manifest."""
        values = {"rows": self.rows, "words": dict(self.words), "characters": dict(self.characters)}
        return (json.dumps(values, indent=0) + "\n").encode()

    def features(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return indices of a text's terms, rising, and their values, both *Shape:* ``(n_found,)``."""
        text = text.lower()
        ngrams = word_ngrams(text, self.form.words)
        words = np.array([self._word_index[ngram] for ngram in ngrams if ngram in self._word_index], np.int64)
        inside = [(self._cached_terms if len(w) <= _MAX_CACHED_LENGTH else self._terms_inside)(w) for w in text.split()]
        characters = np.concatenate([np.array([], np.int64), *inside])
        indices, values = zip(self._values(words), self._values(characters), strict=True)
        return np.concatenate(indices), np.concatenate(values)

    def _terms_inside(self, word: str) -> NDArray[np.int64]:
        """Return the known n-grams of characters of one word, with repetitions."""
        ngrams, index = character_ngrams(word, self.form.characters), self._character_index
        return np.fromiter((index[ngram] for ngram in ngrams if ngram in index), np.int64)

    def _values(self, found: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        indices, counts = np.unique(found, return_counts=True)
        values = (1 + np.log(counts)) * self._idf[indices]
        length = np.sqrt(values @ values)
        return indices, values / length if length else values


class TfidfHead:
    """A linear layer on a text's terms."""

    def __init__(self, terms: Tfidf, weight: Any, bias: Any) -> None:
        """Take the layer's weight, *Shape:* ``(n_labels, n_terms)``, and bias, ``(n_labels,)``."""
        self.terms = terms
        self._weight = np.ascontiguousarray(np.asarray(weight, np.float32).T)  # a text's terms are rows
        self._bias = np.asarray(bias, np.float64)

    def logits(self, text: str) -> NDArray[np.float32]:
        """Return one text's logits, *Shape:* ``(n_labels,)``."""
        indices, values = self.terms.features(text)
        return (values @ self._weight[indices] + self._bias).astype(np.float32)  # summed in float64


def word_ngrams(text: str, max_words: int) -> Iterator[str]:
    """Yield the n-grams of 1 to ``max_words`` words of a lower-case text; a word has two characters or more."""
    words = _WORD.findall(text)
    yield from words
    for n in range(2, max_words + 1):
        for start in range(len(words) - n + 1):
            yield " ".join(words[start : start + n])


def character_ngrams(word: str, max_characters: int) -> Iterator[str]:
    """Yield the n-grams of 2 to ``max_characters`` characters of a word with a space on both sides."""
    padded = f" {word} "
    for n in range(2, min(max_characters, len(padded)) + 1):
        for start in range(len(padded) - n + 1):
            yield padded[start : start + n]
