"""TF-IDF: from a text to the terms that it holds and what each is worth in it.

Tfidf are runs of words and, inside words, runs of characters. They are counted as scikit-learn's ``TfidfVectorizer``
does with ``sublinear_tf``, which executors do not have: a term that stands ``n`` times is worth
``(1 + ln n) * (1 + ln((1 + rows) / (1 + rows with the term)))``, and the terms of each kind have length 1 together.

Source: Salton and Buckley, "Term-weighting approaches in automatic text retrieval", Information Processing &
Management 24 (1988).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ptec_udf.model.manifest import MIN_NGRAM_CHARACTERS, TfidfSpec

_WORD = re.compile(r"\b\w\w+\b")
_NONE = np.array([], np.int64)
_MOST_WORDS_REMEMBERED = 100_000
_LONGEST_WORD_REMEMBERED = 30  # characters; a longer one hardly comes again, and many would fill memory


class Tfidf:
    """The terms of a model, in the order of its weights: words first, then characters."""

    def __init__(self, form: TfidfSpec, rows: int, words: Mapping[str, int], characters: Mapping[str, int]) -> None:
        """Take what was counted.

        Args:
            form: how long terms may be.
            rows: number of training rows.
            words: runs of words, and in how many of the rows each stands.
            characters: the same of runs of characters.
        """
        self.form, self.rows, self.words, self.characters = form, rows, words, characters
        self._of_words = {term: at for at, term in enumerate(words)}
        self._of_characters = {term: at for at, term in enumerate(characters, start=len(words))}
        counts = np.array([*words.values(), *characters.values()], np.float64)
        self._rarity = np.log((1 + rows) / (1 + counts)) + 1
        self._inside: dict[str, NDArray[np.int64]] = {}  # runs of characters of words that were seen lately

    def __len__(self) -> int:
        """Return the number of terms."""
        return len(self._rarity)

    @classmethod
    def from_json(cls, data: bytes, form: TfidfSpec) -> Tfidf:
        """Read what ``to_json`` wrote."""
        return cls(form, **json.loads(data))

    def to_json(self) -> bytes:
        """Write all but the form, which is the manifest's."""
        values = {"rows": self.rows, "words": dict(self.words), "characters": dict(self.characters)}
        return (json.dumps(values, indent=0) + "\n").encode()

    def features(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the terms that stand in a text, rising, and what each is worth, both *Shape:* ``(n_found,)``."""
        text = text.lower()
        runs = word_ngrams(text, self.form.words)
        of_words = np.array([self._of_words[run] for run in runs if run in self._of_words], np.int64)
        of_characters = np.concatenate([_NONE, *map(self._known, text.split())])
        positions, values = zip(self._weighted(of_words), self._weighted(of_characters), strict=True)
        return np.concatenate(positions), np.concatenate(values)

    def _known(self, word: str) -> NDArray[np.int64]:
        """Return the known runs of characters of one word, again and again for the same word."""
        if word in self._inside:
            return self._inside[word]
        runs = character_ngrams(word, self.form.characters)
        known = np.fromiter((self._of_characters[run] for run in runs if run in self._of_characters), np.int64)
        if len(word) <= _LONGEST_WORD_REMEMBERED:
            if len(self._inside) >= _MOST_WORDS_REMEMBERED:
                self._inside.clear()
            self._inside[word] = known
        return known

    def _weighted(self, found: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Count terms of one kind."""
        positions, counts = np.unique(found, return_counts=True)
        values = (1 + np.log(counts)) * self._rarity[positions]
        length = np.sqrt(values @ values)
        return positions, values / length if length else values


class TfidfHead:
    """A linear layer on a text's terms."""

    def __init__(self, terms: Tfidf, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Take the terms and the layer: *Shape:* ``(n_labels, n_terms)`` and ``(n_labels,)``."""
        self.terms = terms
        self._weight = np.ascontiguousarray(weight.numpy().T)  # a text's terms are rows
        self._bias = bias.numpy().astype(np.float64)

    @property
    def n_labels(self) -> int:
        """Number of logits of a text."""
        return len(self._bias)

    def logits(self, text: str) -> NDArray[np.float32]:
        """Return one text's logits, *Shape:* ``(n_labels,)``."""
        positions, values = self.terms.features(text)
        return (values @ self._weight[positions] + self._bias).astype(np.float32)  # summed up in float64


def word_ngrams(text: str, most: int) -> Iterator[str]:
    """Yield each run of up to ``most`` words of a text in lower case; a word has two characters or more."""
    words = _WORD.findall(text)
    yield from words
    for n in range(2, most + 1):
        for start in range(len(words) - n + 1):
            yield " ".join(words[start : start + n])


def character_ngrams(word: str, most: int) -> Iterator[str]:
    """Yield each run of 2 to ``most`` characters of a word with a space on both sides."""
    padded = f" {word} "
    for n in range(MIN_NGRAM_CHARACTERS, min(most, len(padded)) + 1):
        for start in range(len(padded) - n + 1):
            yield padded[start : start + n]
