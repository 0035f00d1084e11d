"""TF-IDF without a language model keeps the scorer's promises."""

from __future__ import annotations

import numpy as np
import pytest

from ptec_udf.engine.scorer import EMPTY, OK, TRUNCATED, TfidfScorer
from ptec_udf.model.manifest import TfidfSpec
from ptec_udf.model.tfidf import Tfidf, TfidfHead

TEXTS = ["solar wind", "Wind, wind & GRID-power!", "qq", "会社 solar " * 30]


@pytest.fixture
def terms():
    counts = {"solar": 3, "wind": 2, "solar wind": 1}
    return Tfidf(TfidfSpec(words=2, characters=3), 5, counts, {" so": 2, "in": 4})


@pytest.fixture
def scorer(terms):
    draw = np.random.default_rng(0)
    return TfidfScorer(TfidfHead(terms, draw.normal(size=(4, len(terms))), draw.normal(size=4)))


def test_scores_are_equal_to_the_bit_in_any_company(scorer):
    for text, result in zip(TEXTS, scorer.score(TEXTS), strict=True):
        assert (result.status, result.n_tokens, result.n_truncated) == (OK, len(text.split()), 0)
        np.testing.assert_array_equal(scorer.score([text])[0].logits, result.logits)


def test_blank_texts_are_empty_and_unknown_words_are_not(scorer):
    statuses = [result.status for result in scorer.score([None, "", " \t\n", "qq"])]
    assert statuses == [EMPTY, EMPTY, EMPTY, OK]


def test_a_value_that_was_cut_makes_the_text_truncated(scorer):
    assert [result.status for result in scorer.score(["solar", "solar \uffff"])] == [OK, TRUNCATED]
