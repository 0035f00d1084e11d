"""Trie Search spells labels of the taxonomy, each once, and finds what brute force finds."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
import transformers

from ptec_udf.errors import ConfigError
from training.methods.trie import LabelTrie, Spelling

SEPARATOR, END = 0, 1
ADVERSARIAL = {
    "one label inside another": ((2,), (2, 3), (2, 3, 4)),
    "shared prefixes": ((2, 3, 4), (2, 3, 5), (2, 6)),
    "one label is the end of another": ((3,), (2, 3), (4, 2, 3)),
    "two labels make a third": ((2,), (3,), (2, 3)),
    "repeated tokens": ((2, 2), (2, 2, 2), (2,)),
    "a single label": ((5,),),
}


def random_labels(seed: int) -> tuple[tuple[int, ...], ...]:
    draw = random.Random(seed)
    found = {tuple(draw.choices((2, 3, 4), k=draw.randint(1, 3))) for _ in range(draw.randint(1, 5))}
    return tuple(sorted(found, key=lambda tokens: draw.random()))


LABEL_SETS = [*ADVERSARIAL.values(), *(random_labels(seed) for seed in range(12))]


def every_sequence(trie: LabelTrie) -> list[tuple[int, ...]]:
    """All that the trie lets end, found by trying every token that it allows."""
    ended, begun = [], [()]
    while begun:
        generated = begun.pop()
        for token in trie.allowed(generated):
            longer = (*generated, token)
            (ended if token == END else begun).append(longer)
    return ended


@pytest.mark.parametrize("labels", LABEL_SETS, ids=str)
@pytest.mark.parametrize("most_labels", [1, 2, 9])
def test_all_orders_of_distinct_labels_and_nothing_else(labels, most_labels):
    spelling = Spelling(labels, SEPARATOR, END)
    trie = LabelTrie(spelling, most_labels)
    lengths = range(1, min(most_labels, len(labels)) + 1)
    orders = [order for length in lengths for order in itertools.permutations(range(len(labels)), length)]
    found = every_sequence(trie)
    assert len(set(found)) == len(found)
    assert set(found) == {tuple(spelling.spelled(order)) for order in orders}
    assert max(map(len, found)) <= trie.most_tokens
    for order in orders:
        assert trie.parse(spelling.spelled(order)) == list(order)


def test_no_label_at_all_where_that_is_wanted():
    spelling = Spelling(((2,), (2, 3)), SEPARATOR, END)
    without, with_none = (set(every_sequence(LabelTrie(spelling, 2, may_be_none=none))) for none in (False, True))
    assert with_none - without == {(END,)} == {tuple(spelling.spelled([]))}
    assert without < with_none


@pytest.mark.parametrize(
    "generated", [[END], [2, END], [2, END, END], [9], [SEPARATOR], [2, SEPARATOR, 2, SEPARATOR], [4, 9, SEPARATOR]]
)
def test_only_the_end_follows_where_nothing_can(generated):
    """generate() goes on with finished rows of a batch, and fails where nothing at all may follow."""
    assert LabelTrie(Spelling(((2,), (3, 4)), SEPARATOR, END), 5).allowed(generated) == [END]


@pytest.mark.parametrize(
    ("generated", "labels"),
    [
        ([], []),
        ([2], [0]),
        ([3], []),
        ([2, SEPARATOR, 3], [0]),
        ([2, SEPARATOR, 2, END], [0]),
        ([9, SEPARATOR, 3, 4, END, 2], [1]),
    ],
)
def test_what_is_no_label_is_not_taken_for_one(generated, labels):
    assert LabelTrie(Spelling(((2,), (3, 4)), SEPARATOR, END), 5).parse(generated) == labels


@pytest.mark.parametrize(
    ("labels", "separator", "fault"),
    [
        (((2,), ()), SEPARATOR, "label 1 has none"),
        (((2, SEPARATOR),), SEPARATOR, "label 0 does"),
        (((2, END),), SEPARATOR, "label 0 does"),
        (((2,), (2,)), SEPARATOR, "same tokens"),
        (((2,),), END, "must be two tokens"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels, separator, fault):
    with pytest.raises(ConfigError, match=fault):
        Spelling(labels, separator, END)


def test_fewer_than_one_label_is_refused():
    with pytest.raises(ConfigError, match="most_labels must be at least 1, was: 0"):
        LabelTrie(Spelling(((2,),), SEPARATOR, END), 0)


@pytest.fixture(scope="module")
def language_model():
    """A causal language model with random weights and eight tokens."""
    config = transformers.LlamaConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.4,
        pad_token_id=END,
        bos_token_id=None,
        eos_token_id=END,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.LlamaForCausalLM(config).eval()


def log_probability(model, prompt: torch.Tensor, sequence: list[int]) -> float:
    """Sum of the model's plain log-probabilities of a sequence's tokens after a prompt."""
    tokens = torch.tensor(sequence)
    embeddings = torch.cat([prompt, model.get_input_embeddings()(tokens)]).unsqueeze(0)
    logits = model(inputs_embeds=embeddings).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(dim=-1)[range(len(tokens)), tokens].sum())


def generated(model, prompts: torch.Tensor, trie: LabelTrie, n_beams: int, n_best: int = 1) -> list[list[int]]:
    """Let beam search generate the best sequences after each prompt; return their labels."""
    search = {"num_beams": n_beams, "length_penalty": 0.0, "early_stopping": "never"} if n_beams > 1 else {}
    sequences = model.generate(
        inputs_embeds=prompts,
        attention_mask=torch.ones(prompts.shape[:2], dtype=torch.long),
        prefix_allowed_tokens_fn=lambda _, tokens: trie.allowed(tokens.tolist()),
        do_sample=False,
        max_new_tokens=trie.most_tokens,
        num_return_sequences=n_best,
        **search,
    )
    return [trie.parse(row) for row in sequences.tolist()]


@torch.no_grad()
@pytest.mark.parametrize("labels", [*ADVERSARIAL.values(), *(random_labels(seed) for seed in range(4))], ids=str)
def test_wide_beams_rank_all_sequences_as_brute_force_does(language_model, labels):
    """In a batch, whose sequences end at different lengths."""
    spelling = Spelling(labels, SEPARATOR, END)
    trie = LabelTrie(spelling, most_labels=2)
    prompts = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(len(labels)))
    n_beams = 6 * len(labels) * (len(labels) + 1)
    orders = [order for length in (1, 2) for order in itertools.permutations(range(len(labels)), length)]
    expected = [
        list(order)
        for prompt in prompts
        for order in sorted(orders, key=lambda order: -log_probability(language_model, prompt, spelling.spelled(order)))
    ]
    assert generated(language_model, prompts, trie, n_beams, n_best=len(orders)) == expected


@torch.no_grad()
@pytest.mark.parametrize("labels", LABEL_SETS, ids=str)
@pytest.mark.parametrize("n_beams", [1, 3])
def test_no_search_leaves_the_taxonomy(language_model, labels, n_beams):
    trie = LabelTrie(Spelling(labels, SEPARATOR, END), most_labels=4)
    prompts = torch.randn(4, 3, 16, generator=torch.Generator().manual_seed(7))
    for found in generated(language_model, prompts, trie, n_beams):
        assert found
        assert len(set(found)) == len(found) <= 4
