"""Texts become ids that keep special tokens; cut tokens are counted."""

from __future__ import annotations

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from ptec_udf.engine.encoder import EncodedText, Encoder
from ptec_udf.errors import BackboneError
from tests.tiny import TEMPLATE

TAIL = " the best team"
COMPANY = "name: {name}. is: {about}. from: {tags} {more}" + TAIL
LONG = f"name: {'solar ' * 39}solar. is: wind grid. from: hotel{TAIL}"
FAMILIES = ("bert", "llama", "bloom", "mpnet", "bytes")


@pytest.fixture(scope="module")
def load(load_tiny):
    """Gives the tokenizer of a family; ``bytes`` makes several tokens of one character."""

    def load(family):
        return _byte_tokenizer() if family == "bytes" else load_tiny(family)[1]

    return load


def _byte_tokenizer():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([LONG] * 3, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def plain(encoder, text):
    return encoder.tokenizer(text, add_special_tokens=False)["input_ids"]


class TestEncoding:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_short_texts_are_encoded_as_the_library_does(self, load, family):
        encoder = Encoder(load(family), 40, COMPANY)
        texts = ["solar wind", "Ünïcode 会社", "", "\u200b"]
        expected = [encoder.tokenizer(text)["input_ids"] if plain(encoder, text) else [] for text in texts]
        assert encoder.encode(texts) == [EncodedText(ids, 0) for ids in expected]

    def test_truncation_and_padding_of_the_tokenizer_are_switched_off(self, load):
        tokenizer = tokenizers.Tokenizer.from_str(load("bert").backend_tokenizer.to_str())
        tokenizer.enable_truncation(4)
        tokenizer.enable_padding(length=32)
        assert len(Encoder(tokenizer, 40).encode(["solar " * 10])[0].ids) == 12

    def test_a_slow_tokenizer_is_refused(self):
        with pytest.raises(BackboneError, match="must have a fast tokenizer"):
            Encoder(object(), 20)


class TestCutting:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_only_the_field_that_is_too_long_loses_its_end(self, load, family):
        encoder, end = Encoder(load(family), 40, COMPANY), f". is: wind grid. from: hotel{TAIL}"
        (found,) = encoder.encode([LONG])
        n_end = len(plain(encoder, end))
        ids = found.ids[len(encoder.before) : len(found.ids) - len(encoder.after)]
        assert len(found.ids) == 40
        assert found.n_truncated == len(plain(encoder, LONG)) - len(ids) > 0
        assert ids[-n_end:] == plain(encoder, end)
        assert ids[:-n_end] == plain(encoder, LONG)[: len(ids) - n_end]

    @pytest.mark.parametrize("template", [TEMPLATE, "{name}", None])
    def test_one_segment_is_cut_at_its_end(self, load, template):
        encoder = Encoder(load("bert"), 20, template)
        assert encoder.cut == "end"
        assert encoder.encode([LONG])[0].ids[1:-1] == plain(encoder, LONG)[:18]

    def test_texts_are_cut_alike_alone_and_together(self, load):
        encoder = Encoder(load("bert"), 40, COMPANY)
        texts = ["name: wind", LONG, "", f"name: solar {LONG}", LONG, "😀 " * 90]
        assert encoder.encode(texts) == [encoder.encode([text])[0] for text in texts]
