"""A long text loses tokens from the end of its longest segment; headings, tail and short segments stay."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from ptec_udf.engine.encoder import EncodedText, Encoder
from ptec_udf.errors import BackboneError
from ptec_udf.text.cut import cuts_at_end, find_openings, select_tokens, share_budget
from ptec_udf.text.template import parse_template
from tests.tiny import TEMPLATE

COMPANY = "name: {name}. is: {about}. from: {tags} {more} the best team"
TAIL = " the best team"
NAMES = ("name: ", ". is: ", ". from: ")
WORDS = ("solar", "wind", "gene", "loan", "hotel", "film")
LONG = f"name: {'solar ' * 39}solar. is: wind grid. from: hotel{TAIL}"
FAMILIES = ("bert", "llama", "bloom", "mpnet", "bytes")
STRANGE = (
    "😀 solar",
    "wïnd",
    "会社",
    "👩‍👩‍👧",
    "é",
    "e\u0301",
    "\u200b",
    "ﷺ",
    "Å",
    "is: ",
    ". is: x",
    "name: ",
    ". from: ",
)


@pytest.fixture(scope="module")
def load(load_tiny):
    """Gives the tokeniser of a family; ``bytes`` makes several tokens of a character, which begin at one place."""

    def load(family):
        return _of_bytes() if family == "bytes" else load_tiny(family)[1]

    return load


def _of_bytes():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([LONG] * 3, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def segments_of(encoder, text):
    """Read the tokens of a text at their places: those of each segment, its opening apart, and of the tail, by hand."""
    offsets = encoder.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    end = len(text) - len(TAIL) if text.endswith(TAIL) else len(text)
    marks, at = [], 0
    for name in NAMES:
        name = name if marks else name.removeprefix(". ")
        place = text.find(name, at, end) if marks else 0
        if place >= 0 and text.startswith(name, place):
            marks.append((place, at := place + len(name)))
    marks = marks or [(0, 0)]
    of_segments, of_tail = [[[], []] for _ in marks], []
    for token, (start, _) in enumerate(offsets):
        if start >= end and text.endswith(TAIL):
            of_tail.append(token)
        else:
            segment = max((number for number, (first, _) in enumerate(marks) if first <= start), default=0)
            of_segments[segment][start >= marks[segment][1]].append(token)
    return of_segments, of_tail


def cut_slowly(of_segments, of_tail, room):
    """Take one token at a time from the end of the longest segment, the last of equally long ones."""
    segments = [(list(opening), list(value)) for opening, value in of_segments]
    while sum(len(opening) + len(value) for opening, value in segments) + len(of_tail) > room:
        lengths = [len(opening) + len(value) if value else -1 for opening, value in segments]
        longest = max(range(len(segments)), key=lambda at: (lengths[at], at))
        segments[longest][1].pop()
    return [token for opening, value in segments for token in (*opening, *value)] + of_tail


def texts_of(n, strange=False, seed=0):
    """Make up texts of the template; values of very different lengths, some segments missing."""
    draw = random.Random(seed)
    words = WORDS + (STRANGE if strange else ())
    for _ in range(n):
        there = [name for name in NAMES if draw.random() < 0.8] or [NAMES[0]]
        values = [" ".join(draw.choices(words, k=draw.choice((1, 2, 5, 12, 40)))) for _ in there]
        yield "".join(map("".join, zip(there, values, strict=True))).removeprefix(". ") + TAIL


def plain(encoder, text):
    return encoder.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("strange", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_taken_one_by_one_from_the_longest_segment(load, family, strange):
    encoder = Encoder(load(family), 60, COMPANY)
    texts, room = list(texts_of(150, strange)), 60 - encoder.n_special
    n_compared = 0
    for text, found in zip(texts, encoder.encode(texts), strict=True):
        ids = plain(encoder, text)
        of_segments, of_tail = segments_of(encoder, text)
        n_least = sum(len(opening) for opening, _ in of_segments) + len(of_tail)
        assert found.n_truncated == max(0, len(ids) - room)
        assert len(found.ids) == min(len(ids) + encoder.n_special, 60)
        if len(ids) <= room:
            assert found.ids == encoder.tokenizer(text)["input_ids"]
        elif n_least <= room:
            stays = [ids[at] for at in cut_slowly(of_segments, of_tail, room)]
            assert found.ids == [*encoder.before, *stays, *encoder.after]
            n_compared += 1
    assert n_compared > 20


@pytest.mark.parametrize("family", FAMILIES)
def test_the_field_that_is_too_long_loses_its_end_and_no_other(load, family):
    encoder, end = Encoder(load(family), 40, COMPANY), f". is: wind grid. from: hotel{TAIL}"
    (found,) = encoder.encode([LONG])
    n_end = len(plain(encoder, end))
    ids = found.ids[len(encoder.before) : len(found.ids) - len(encoder.after)]
    assert found.n_truncated == len(plain(encoder, LONG)) - len(ids) > 0
    assert ids[-n_end:] == plain(encoder, end)
    assert ids[:-n_end] == plain(encoder, LONG)[: len(ids) - n_end]


def test_texts_are_cut_alike_alone_and_beside_others(load):
    encoder = Encoder(load("bert"), 40, COMPANY)
    texts = [*texts_of(40, strange=True), "", " ", LONG, LONG]
    assert encoder.encode(texts) == [encoder.encode([text])[0] for text in texts]


def test_texts_of_a_batch_are_tokenised_once_and_each_cut_by_its_own_tokens(load, monkeypatch):
    encoder, calls = Encoder(load("bert"), 40, COMPANY), []
    texts = ["name: wind", LONG, "", f"name: solar {LONG}", LONG]
    alone = [encoder.encode([text])[0] for text in texts]

    def tokenizer(texts, **options):
        calls.append(len(texts))
        return load("bert")(texts, **options)

    monkeypatch.setattr(encoder, "tokenizer", tokenizer)
    assert encoder.encode(texts) == alone
    assert calls == [5]


@pytest.mark.parametrize("text", ["", " ", "\u200b", "😀"])
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_without_anything_to_cut_are_as_before(load, family, text):
    assert Encoder(load(family), 12, COMPANY).encode([text]) == Encoder(load(family), 12).encode([text])


@pytest.mark.parametrize("template", [TEMPLATE, "{name}", "name: {name} {about}. {tags}"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_segment_without_a_tail_is_cut_at_its_end(load, family, template):
    assert cuts_at_end(parse_template(template))
    encoder = Encoder(load(family), 20, template)
    assert encoder.cut == "end"
    assert encoder.encode([LONG]) == Encoder(load(family), 20).encode([LONG])
    tokens = plain(encoder, LONG)
    starts = encoder.tokenizer(LONG, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert select_tokens(LONG, [start for start, _ in starts], parse_template(template), 9) == list(range(9))
    assert len(tokens) > 9


def test_tokeniser_that_does_not_tell_places_cuts_at_the_end(load, monkeypatch):
    tokenizer = load("bert")
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    encoder = Encoder(tokenizer, 20, COMPANY)
    assert encoder.cut == "end"
    assert encoder.encode([LONG]) == Encoder(tokenizer, 20).encode([LONG])
    told = SimpleNamespace(max_tokens=20, template=COMPANY, cut="longest_segment")
    with pytest.raises(BackboneError, match="does not tell where tokens begin"):
        Encoder.of(told, tokenizer)


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        (2, "name :"),
        (3, "the best team"),
        (5, "name : the best team"),
        (7, "name : solar . the best team"),
        (8, "name : . is : the best team"),
        (9, "name : solar . is : the best team"),
        (10, "name : solar . is : wind the best team"),
        (11, "name : solar . is : wind wind the best team"),
    ],
)
def test_tail_stays_where_headings_have_no_room(load, max_tokens, expected):
    encoder = Encoder(load("bloom"), max_tokens, "name: {name}. is: {about} the best team")
    (found,) = encoder.encode(["name: solar. is: wind wind the best team"])
    assert " ".join(encoder.tokenizer.convert_ids_to_tokens(found.ids)) == expected
    assert found.n_truncated == 11 - max_tokens


def test_openings_are_found_in_order():
    template = parse_template("{name}. Keywords: {tags}. About: {about}{{end}}")
    assert template.tail == "{end}"

    def found(text):
        end = len(text) - len("{end}")
        return [text[first:last] for first, last in find_openings(text, template, end)]

    assert found("Acme. Keywords: a, b. About: c{end}") == ["", ". Keywords: ", ". About: "]
    assert found("Acme. About: c{end}") == ["", ". About: "]
    assert found("Keywords: a. About: c{end}") == ["Keywords: ", ". About: "]
    assert found("About: c{end}") == ["About: "]
    assert found("About: c. Keywords: a. About: d{end}") == [
        "About: "
    ]  # what comes before in the template is not there
    assert found("Acme. About: c. Keywords: d{end}") == ["", ". Keywords: "]  # a heading in a value: mistaken, harmless
    assert found("something else{end}") == [""]


def test_a_heading_inside_a_value_moves_the_cut_and_harms_nothing(load):
    encoder = Encoder(load("bert"), 30, COMPANY)
    text = f"name: a. is: {'wind ' * 30}. from: hotel. from: {'loan ' * 30}{TAIL}"
    (found,) = encoder.encode([text])
    assert len(found.ids) == 30
    assert found.n_truncated == len(plain(encoder, text)) - 28
    assert encoder.tokenizer.convert_ids_to_tokens(found.ids)[-4:] == ["the", "best", "team", "[SEP]"]


def test_a_text_of_no_template_is_cut_at_its_end(load):
    encoder = Encoder(load("bert"), 12, COMPANY)
    text = "solar wind " * 20
    assert encoder.encode([text]) == Encoder(load("bert"), 12).encode([text])


def test_tokens_out_of_order_stay_runs():
    template = parse_template("{a}. B: {b}")
    text = "xxxx. B: yy"
    assert select_tokens(text, [0, 2, 1, 3, 4, 9, 10], template, 4) == [0, 1, 4, 5]


def test_room_is_shared_as_one_token_after_another_would_be_taken():
    draw = random.Random(5)
    for _ in range(2000):
        least = [draw.randint(0, 6) for _ in range(draw.randint(1, 5))]
        lengths = [few + draw.choice((0, 0, 1, 3, 9, 30)) for few in least]
        if sum(least) == sum(lengths):
            continue
        room = draw.randint(sum(least), sum(lengths) - 1)
        stay = list(lengths)
        while sum(stay) > room:
            can = [at for at in range(len(stay)) if stay[at] > least[at]]
            stay[max(can, key=lambda at: (stay[at], at))] -= 1
        assert share_budget(lengths, least, room) == stay


def test_encoded_text_counts_what_is_gone(load):
    assert Encoder(load("bloom"), 6, "is: {a}. from: {b}").encode(["is: solar wind gene. from: loan"]) == [
        EncodedText(load("bloom")("is: solar. from:")["input_ids"], 3)
    ]
