"""Texts become ids with their special tokens, and what is cut is counted."""

from __future__ import annotations

import pytest

from ptec_udf.engine.encoder import EncodedText, Encoder

TEXT = "we make solar power and wind power for the grid"  # ten words, each one token
AROUND = {"bert": (["[CLS]"], ["[SEP]"]), "llama": (["<s>"], []), "bloom": ([], [])}


def encoder_of(load_tiny, family, max_tokens):
    return Encoder(load_tiny(family)[1], max_tokens)


@pytest.mark.parametrize("family", AROUND)
def test_short_text_has_its_special_tokens_and_loses_nothing(load_tiny, family):
    encoder = encoder_of(load_tiny, family, 12)
    before, after = AROUND[family]
    (text,) = encoder.encode([TEXT])
    assert encoder.tokenizer.convert_ids_to_tokens(text.ids) == [*before, *TEXT.split(), *after]
    assert text.n_truncated == 0
    assert text.ids == encoder.tokenizer(TEXT)["input_ids"]


@pytest.mark.parametrize("family", AROUND)
def test_special_tokens_survive_the_cut_of_the_end(load_tiny, family):
    encoder = encoder_of(load_tiny, family, 6)
    before, after = AROUND[family]
    room = 6 - len(before) - len(after)
    (text,) = encoder.encode([TEXT])
    assert encoder.tokenizer.convert_ids_to_tokens(text.ids) == [*before, *TEXT.split()[:room], *after]
    assert text.n_truncated == 10 - room


@pytest.mark.parametrize(("max_tokens", "n_truncated"), [(11, 1), (12, 0), (13, 0)])
def test_text_that_just_fits_is_whole(load_tiny, max_tokens, n_truncated):
    (text,) = encoder_of(load_tiny, "bert", max_tokens).encode([TEXT])
    assert text.n_truncated == n_truncated
    assert len(text.ids) == 12 - n_truncated


def test_text_without_a_token_of_its_own_is_empty(load_tiny):
    assert encoder_of(load_tiny, "bert", 12).encode(["", "  ", "\u200b"]) == [EncodedText([], 0)] * 3


def test_text_far_over_the_limit_of_the_tokeniser_is_counted_in_full(load_tiny):
    (text,) = encoder_of(load_tiny, "llama", 8).encode(["solar " * 5000])
    assert (len(text.ids), text.n_truncated) == (8, 5000 - 7)


def test_padding_id_falls_back_to_0(load_tiny):
    assert load_tiny("llama")[1].pad_token_id is None
    assert encoder_of(load_tiny, "llama", 12).pad_id == 0
    assert encoder_of(load_tiny, "bert", 12).pad_id == load_tiny("bert")[1].pad_token_id
