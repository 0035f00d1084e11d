"""TF-IDF has the values of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from ptec_udf.model.manifest import TfidfSpec
from ptec_udf.model.tfidf import Tfidf, TfidfHead
from tests.tiny import tiny_companies, tiny_text

HOSTILE = [
    "Solar, wind & GRID-power! Solar, wind & GRID-power!",
    "İstanbul'da ÉNERGIE \N{COMBINING ACUTE ACCENT}e ß STRASSE straße",
    "漢字 テスト 漢字 🚀 rocket 🚀",
    "tab\tnew\nline\u00a0no\u2003em \x1cunit  two   three",
    "don't stop_under_score 3d 2026 v1.2 a/b c++",
    "\ud800 lone surrogate",
    "w",
    "",
]
TEXTS = [*map(tiny_text, tiny_companies(60)), *HOSTILE, *HOSTILE, *HOSTILE]
UNSEEN = [*map(tiny_text, tiny_companies(20, seed=3)), *HOSTILE, " \n", "qqqq wwww", "solar" * 400]


def vectorizers(words, characters):
    return [
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, words), min_df=2).fit(TEXTS),
        TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, characters), min_df=3).fit(TEXTS),
    ]


def terms_of(words, characters):
    """Read the counts off scikit-learn's vectorizers."""
    counts = []
    for vectorizer in vectorizers(words, characters):
        n_rows = np.rint((1 + len(TEXTS)) / np.exp(vectorizer.idf_ - 1) - 1).astype(int)
        counts.append(dict(zip(vectorizer.get_feature_names_out().tolist(), n_rows.tolist(), strict=True)))
    return Tfidf(TfidfSpec(words=words, characters=characters), len(TEXTS), *counts)


def dense(terms, texts):
    found = np.zeros((len(texts), len(terms)))
    for row, text in enumerate(texts):
        indices, values = terms.features(text)
        found[row, indices] = values
    return found


@pytest.mark.parametrize(("words", "characters"), [(1, 2), (2, 5), (3, 9)])
def test_values_are_scikit_learns(words, characters):
    expected = [vectorizer.transform(UNSEEN).toarray() for vectorizer in vectorizers(words, characters)]
    np.testing.assert_allclose(dense(terms_of(words, characters), UNSEEN), np.hstack(expected), rtol=0, atol=1e-12)


def test_terms_come_back_as_they_were_written():
    terms = terms_of(2, 5)
    read = Tfidf.from_json(terms.to_json(), terms.form)
    assert read.to_json() == terms.to_json()
    np.testing.assert_array_equal(dense(read, UNSEEN), dense(terms, UNSEEN))


def test_logits_are_the_linear_layer_on_the_values():
    terms, draw = terms_of(2, 5), np.random.default_rng(0)
    weight, bias = draw.normal(size=(4, len(terms))), draw.normal(size=4)
    head = TfidfHead(terms, weight, bias)
    found = np.stack([head.logits(text) for text in UNSEEN])
    assert (found.shape, found.dtype) == ((len(UNSEEN), 4), np.float32)
    np.testing.assert_allclose(found, dense(terms, UNSEEN) @ weight.T + bias, rtol=0, atol=1e-5)
