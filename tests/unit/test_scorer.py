"""Texts are scored in any number and order, and a bad one harms nobody but itself."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from ptec_udf.engine.result import EMPTY, ERROR, OK, TRUNCATED, ScoredText
from ptec_udf.engine.scorer import Scorer, batches, pad
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from tests.tiny import FAMILIES, KINDS, LABELS, tiny_artifact, tiny_companies, tiny_network, tiny_text
from tests.tolerance import assert_logits_close

TEXTS = [tiny_text(company) for company in tiny_companies(40, seed=11)]
POISON = "Name: secret. turbine luggage enzyme"


@pytest.fixture
def make_scorer(tiny_folder):
    """Makes scorers that a test may break."""

    def make(family="bert", kind="deep", batch_tokens=256):
        artifact = load_artifact(tiny_artifact(tiny_folder, family, kind))
        model, tokenizer = resolve(artifact.manifest.backbone.name).load()
        return Scorer.from_artifact(artifact, model, tokenizer, batch_tokens=batch_tokens)

    return make


def logits_of(results):
    return np.stack([result.logits for result in results])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_network_that_was_exported(load_tiny, make_scorer, family, kind):
    model, tokenizer = load_tiny(family)
    network = tiny_network(model, tokenizer, kind)
    scorer = make_scorer(family, kind)
    ids = [text.ids for text in scorer.encoder.encode(TEXTS)]
    with torch.inference_mode():
        expected = network(*pad(ids, 0)).numpy()
    results = scorer.score(TEXTS)
    assert {result.status for result in results} <= {OK, TRUNCATED}
    assert_logits_close(logits_of(results), expected)
    assert results[0].logits.shape == (len(LABELS),)
    assert results[0].logits.dtype == np.float32


@pytest.mark.parametrize(
    ("family", "kind"), [("bert", "input"), ("bert", "deep"), ("llama", "input"), ("bloom", "deep")]
)
def test_any_batch_budget_and_order_gives_the_same_logits(make_scorer, family, kind):
    scorer = make_scorer(family, kind)
    expected = logits_of(scorer.score(TEXTS))
    for budget in (1, 40, 97, 100_000):
        scorer.batch_tokens = budget
        assert_logits_close(logits_of(scorer.score(TEXTS)), expected)
    assert_logits_close(logits_of(scorer.score(TEXTS[::-1])), expected[::-1])
    assert_logits_close(logits_of(scorer.score(TEXTS[7:8])), expected[7:8])


def test_equal_texts_in_a_batch_get_equal_scores(make_scorer):
    first, _, second = make_scorer().score([TEXTS[0], TEXTS[1], TEXTS[0]])
    assert_logits_close(first.logits, second.logits)


@pytest.mark.parametrize("text", [None, "", "   ", "\n\t", "\u3000", "\u200b"])
def test_text_without_content_is_empty_and_its_neighbours_are_not(make_scorer, text):
    results = make_scorer().score([TEXTS[0], text, TEXTS[1]])
    assert [result.status for result in results] == [OK, EMPTY, OK]
    empty = results[1]
    assert (empty.logits, empty.error) == (None, None)
    assert (empty.n_tokens, empty.n_truncated, empty.batch_positions) == (0, 0, 0)


@pytest.mark.parametrize(("at_once", "least", "most"), [(1, 40, 40), (200, 13, 39), (10_000, 1, 1)])
def test_texts_are_tokenised_some_at_a_time(make_scorer, monkeypatch, at_once, least, most):
    scorer = make_scorer()
    texts, encode, numbers = [*TEXTS, None, ""], scorer.encoder.encode, []
    expected = scorer.encode(texts, [])
    monkeypatch.setattr("ptec_udf.engine.scorer._CHARACTERS_AT_ONCE", at_once)
    monkeypatch.setattr(scorer.encoder, "encode", lambda some: numbers.append(sum(map(len, some))) or encode(some))
    assert scorer.encode(texts, []) == expected
    assert max(numbers) <= max(at_once, *map(len, TEXTS))
    assert least <= len(numbers) <= most


def test_nothing_but_empty_texts(make_scorer):
    assert [result.status for result in make_scorer().score([None, ""])] == [EMPTY, EMPTY]
    assert make_scorer().score([]) == []


def test_cut_texts_say_how_much_was_cut(make_scorer):
    whole, cut = make_scorer().score(["solar " * 30, "solar " * 45])
    assert (whole.status, whole.n_tokens, whole.n_truncated) == (OK, 32, 0)
    assert (cut.status, cut.n_tokens, cut.n_truncated) == (TRUNCATED, 32, 15)
    assert_logits_close(cut.logits, whole.logits)


def test_positions_of_a_batch_count_padding(make_scorer):
    short, long = make_scorer(batch_tokens=1000).score(["solar wind", "solar wind grid battery"])
    assert (short.n_tokens, long.n_tokens) == (4, 6)
    assert short.batch_positions == long.batch_positions == 6


def poisoned_rows(scorer, ids):
    poison = scorer.encoder.encode([POISON])[0].ids
    return [row for row in range(len(ids)) if ids[row].tolist()[: len(poison)] == poison]


@pytest.mark.parametrize("at", [0, 17, 40])
@pytest.mark.parametrize(
    "error", [RuntimeError, ValueError, IndexError, torch.OutOfMemoryError, MemoryError, FloatingPointError]
)
def test_text_that_breaks_the_network_is_found_and_its_neighbours_are_scored(make_scorer, monkeypatch, at, error):
    scorer = make_scorer(batch_tokens=100_000)
    expected = logits_of(scorer.score(TEXTS))
    forward = scorer.network.forward

    def breaking(ids, mask):
        if poisoned_rows(scorer, ids):
            raise error(f"cannot score {POISON}")
        return forward(ids, mask)

    monkeypatch.setattr(scorer.network, "forward", breaking)
    results = scorer.score([*TEXTS[:at], POISON, *TEXTS[at:]])
    bad = results.pop(at)
    assert (bad.status, bad.error, bad.logits) == (ERROR, f"scoring this text alone raised {error.__name__}", None)
    assert {result.status for result in results} == {OK}
    assert_logits_close(logits_of(results), expected)


def test_text_that_breaks_the_tokeniser_is_found_and_its_neighbours_are_scored(make_scorer, monkeypatch):
    scorer = make_scorer()
    encode = scorer.encoder.encode

    def breaking(texts):
        if POISON in texts:
            raise TypeError(POISON)
        return encode(texts)

    monkeypatch.setattr(scorer.encoder, "encode", breaking)
    results = scorer.score([*TEXTS[:5], POISON, *TEXTS[5:9], None, POISON])
    assert [result.status for result in results] == [*[OK] * 5, ERROR, *[OK] * 4, EMPTY, ERROR]
    assert results[5].error == "scoring this text alone raised TypeError"


@pytest.mark.parametrize(
    "refusal", [type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"}), Exception]
)
def test_text_that_the_tokenisers_native_code_gives_up_on_is_found(make_scorer, monkeypatch, refusal):
    scorer = make_scorer()
    tokenizer = scorer.encoder.tokenizer

    def breaking(texts, **options):
        if POISON in texts:
            raise refusal(POISON)
        return tokenizer(texts, **options)

    monkeypatch.setattr(scorer.encoder, "tokenizer", breaking)
    results = scorer.score([*TEXTS[:3], POISON])
    assert [result.status for result in results] == [OK, OK, OK, ERROR]
    assert results[3].error == "scoring this text alone raised TokeniserPanic"


def test_halving_needs_few_passes(make_scorer, monkeypatch):
    scorer = make_scorer(batch_tokens=100_000)
    forward, sizes = scorer.network.forward, []

    def breaking(ids, mask):
        sizes.append(len(ids))
        if poisoned_rows(scorer, ids):
            raise RuntimeError
        return forward(ids, mask)

    monkeypatch.setattr(scorer.network, "forward", breaking)
    scorer.score([*TEXTS[:31], POISON])
    assert len(sizes) == 1 + 2 * 5


def test_error_of_our_own_making_is_not_hidden(make_scorer, monkeypatch):
    scorer = make_scorer()

    def stop(ids, mask):
        raise KeyboardInterrupt

    monkeypatch.setattr(scorer.network, "forward", stop)
    with pytest.raises(KeyboardInterrupt):
        scorer.score(TEXTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_an_error_of_that_text_only(make_scorer, monkeypatch, value):
    scorer = make_scorer(batch_tokens=100_000)
    forward = scorer.network.forward

    def poisoned(ids, mask):
        logits = forward(ids, mask)
        logits[poisoned_rows(scorer, ids), 1] = value
        return logits

    monkeypatch.setattr(scorer.network, "forward", poisoned)
    results = scorer.score([TEXTS[0], POISON, TEXTS[1]])
    assert [result.status for result in results] == [OK, ERROR, OK]
    assert (results[1].error, results[1].logits) == ("logits are not finite", None)
    assert results[1].n_tokens > 0


def test_what_a_failed_pass_had_in_memory_is_free_when_its_halves_run(make_scorer, monkeypatch):
    scorer = make_scorer(batch_tokens=100_000)
    expected = logits_of(scorer.score(TEXTS))
    forward, held = scorer.network.forward, []

    def filling(ids, mask):
        assert [one for one in held if one() is not None] == []
        hidden = torch.zeros(1)
        held.append(weakref.ref(hidden))
        if len(ids) > 5:
            raise torch.OutOfMemoryError
        return forward(ids, mask) + hidden

    monkeypatch.setattr(scorer.network, "forward", filling)
    assert_logits_close(logits_of(scorer.score(TEXTS)), expected)
    assert len(held) > len(TEXTS) / 5
    tried = len(held)
    scorer.score(TEXTS)
    assert scorer.batch_tokens < 100_000
    assert len(held) - tried < tried  # batches are smaller from the first on


def test_batches_after_one_that_did_not_fit_are_smaller_at_once(make_scorer):
    scorer = make_scorer(batch_tokens=200)
    found = batches(scorer.encode(TEXTS, [ScoredText() for _ in TEXTS]), lambda: scorer.batch_tokens)
    first = next(found)
    scorer.batch_tokens = 1
    assert len(first) > 1
    assert {len(batch) for batch in found} == {1}


def test_scores_do_not_come_with_company_text(make_scorer, monkeypatch):
    def breaking(ids, mask):
        raise RuntimeError(POISON)

    scorer = make_scorer()
    monkeypatch.setattr(scorer.network, "forward", breaking)
    [result] = scorer.score([POISON])
    assert result.status == ERROR
    assert "secret" not in repr(result)


def test_padding_is_on_the_right():
    ids, mask = pad([[5, 6, 7], [8]], 9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
