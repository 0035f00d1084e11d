"""TF-IDF without scikit-learn gives what scikit-learn gives, and keeps the scorer's promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from ptec_udf.engine.result import EMPTY, ERROR, OK, TRUNCATED
from ptec_udf.engine.tfidf_scorer import TfidfScorer
from ptec_udf.model import tfidf as module
from ptec_udf.model.manifest import TfidfSpec
from ptec_udf.model.tfidf import Tfidf, TfidfHead
from tests.tiny import tiny_companies, tiny_text
from training.fit.tfidf import fit_vectorizer, tfidf_matrix

HOSTILE = [
    "Solar, wind & GRID-power! Solar, wind & GRID-power!",
    "İstanbul'da ÉNERGIE \N{COMBINING ACUTE ACCENT}e ß STRASSE straße",
    "漢字 テスト 漢字 🚀 rocket 🚀",
    "x y z a b",
    "tab\tnew\nline\u00a0no\u2003em \x1cunit  two   three",
    "don't stop_under_score 3d 2026 v1.2 a/b c++",
    "solar solar solar solar wind wind ...",
    "\ud800 lone surrogate",
    "!? .",
    "w",
    "",
]
TEXTS = [*map(tiny_text, tiny_companies(60)), *HOSTILE, *HOSTILE, *HOSTILE]
UNSEEN = [*map(tiny_text, tiny_companies(20, seed=3)), *HOSTILE, " \n", "qqqq wwww", "solar" * 400]


@pytest.fixture(scope="module")
def terms():
    return fit_vectorizer(TEXTS, TfidfSpec(words=2, characters=5))


def test_giant_words_are_read_and_not_kept(terms):
    before = dict(terms._inside)
    giant = TfidfHead(terms, torch.ones(1, len(terms)), torch.zeros(1)).logits("solar" * 200_000)
    assert np.isfinite(giant).all()
    assert giant > 0
    assert terms._inside == before


@pytest.mark.parametrize(("words", "characters"), [(1, 2), (2, 5), (3, 9)])
def test_terms_and_their_worth_are_scikit_learns(words, characters):
    terms = fit_vectorizer(TEXTS, TfidfSpec(words=words, characters=characters))
    kinds = [
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, words), min_df=2),
        TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, characters), min_df=3),
    ]
    expected = [kind.fit(TEXTS).transform(UNSEEN).toarray() for kind in kinds]
    for kind, ours in zip(kinds, (terms.words, terms.characters), strict=True):
        assert list(ours) == kind.get_feature_names_out().tolist()
    found = tfidf_matrix(terms, UNSEEN).toarray()
    np.testing.assert_allclose(found, np.hstack(expected), rtol=0, atol=1e-12)


def test_terms_come_back_as_they_were_written(terms):
    read = Tfidf.from_json(terms.to_json(), terms.form)
    assert read.to_json() == terms.to_json()
    for text in UNSEEN:
        for found, expected in zip(read.features(text), terms.features(text), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_forgetting_words_changes_nothing(terms, monkeypatch):
    expected = [terms.features(text) for text in UNSEEN]
    monkeypatch.setattr(module, "_MOST_WORDS_REMEMBERED", 3)
    fresh = Tfidf.from_json(terms.to_json(), terms.form)
    for text, (positions, values) in zip(UNSEEN, expected, strict=True):
        np.testing.assert_array_equal(fresh.features(text)[0], positions)
        np.testing.assert_array_equal(fresh.features(text)[1], values)
        assert len(fresh._inside) <= 3


@pytest.fixture
def scorer(terms):
    generator = torch.Generator().manual_seed(0)
    return TfidfScorer(
        TfidfHead(terms, torch.randn(4, len(terms), generator=generator), torch.randn(4, generator=generator))
    )


def test_logits_are_the_linear_layer_on_the_terms(scorer, terms):
    scored = scorer.score(UNSEEN)
    expected = tfidf_matrix(terms, UNSEEN) @ scorer.head._weight.astype(np.float64) + scorer.head._bias
    for result, logits, text in zip(scored, expected, UNSEEN, strict=True):
        if text.strip():
            assert (result.status, result.n_truncated, result.n_tokens) == (OK, 0, len(text.split()))
            assert result.batch_positions == result.n_tokens
            assert result.logits.dtype == np.float32
            np.testing.assert_allclose(result.logits, logits, rtol=0, atol=1e-6)


def test_a_text_with_a_value_that_was_cut_is_truncated_although_all_that_is_left_was_read(scorer):
    whole, cut = scorer.score(["solar wind. more", "solar wind \uffff. more"])
    assert [(result.status, result.n_truncated) for result in (whole, cut)] == [(OK, 0), (TRUNCATED, 0)]


def test_score_of_a_text_is_the_same_to_the_bit_in_any_company(scorer):
    together = scorer.score(UNSEEN)
    for text, result in list(zip(UNSEEN, together, strict=True))[::-1]:
        (alone,) = scorer.score([text])
        np.testing.assert_array_equal(alone.logits, result.logits)


def test_no_text_is_empty_and_a_text_without_known_terms_is_not(scorer):
    *empty, unknown = scorer.score([None, "", " \t\n", "qq"])
    assert [(result.status, result.logits) for result in empty] == [(EMPTY, None)] * 3
    assert unknown.status == OK
    assert len(scorer.score([])) == 0


def test_logits_that_are_not_finite_are_an_error_of_the_row(terms):
    weight = torch.zeros(1, len(terms))
    weight[0, list(terms.words).index("solar")] = torch.inf
    good, bad = TfidfScorer(TfidfHead(terms, weight, torch.zeros(1))).score(["wind power", "solar power"])
    assert (good.status, bad.status, bad.error, bad.logits) == (OK, ERROR, "logits are not finite", None)
