"""Methods in which a decoder writes the labels: the trie, the writing and reading, the training."""

from __future__ import annotations

import itertools
import random
from typing import ClassVar

import numpy as np
import pytest
import torch

from ptec_training.methods.generative import NShot, PromptTuning
from ptec_training.methods.label_trie import LabelTrie
from ptec_training.methods.writer import Writer, spell_labels
from ptec_udf.errors import ConfigError
from tests.tiny import LABELS, tiny_backbone
from tests.unit.test_methods import task_of

TEXTS = ["Name: a. solar wind", "Name: b. gene cell protein therapy with the best team", "loan"]
SEPARATOR, END = 0, 1
ADVERSARIAL = (
    ((2,), (2, 3), (2, 3, 4)),
    ((2, 3, 4), (2, 3, 5), (2, 6)),
    ((3,), (2, 3), (4, 2, 3)),
    ((2, 2), (2, 2, 2), (2,)),
    ((5,),),
)


def random_labels(seed: int) -> tuple[tuple[int, ...], ...]:
    draw = random.Random(seed)
    found = {tuple(draw.choices((2, 3, 4), k=draw.randint(1, 3))) for _ in range(draw.randint(1, 5))}
    return tuple(sorted(found))


def every_sequence(trie: LabelTrie) -> list[tuple[int, ...]]:
    """All sequences that the trie lets end."""
    ended: list[tuple[int, ...]] = []
    begun: list[tuple[int, ...]] = [()]
    while begun:
        generated = begun.pop()
        for token in trie.allowed(generated):
            (ended if token == END else begun).append((*generated, token))
    return ended


class TestTrie:
    @pytest.mark.parametrize("labels", [*ADVERSARIAL, *map(random_labels, range(8))], ids=str)
    @pytest.mark.parametrize("max_labels", [1, 2, 9])
    def test_spells_all_orders_of_labels_and_nothing_else(self, labels, max_labels) -> None:
        trie = LabelTrie(labels, SEPARATOR, END, max_labels)
        lengths = range(1, min(max_labels, len(labels)) + 1)
        orders = [order for length in lengths for order in itertools.permutations(range(len(labels)), length)]
        found = every_sequence(trie)
        assert len(set(found)) == len(found)
        assert set(found) == {tuple(trie.spell(order)) for order in orders}
        assert max(map(len, found)) <= trie.max_tokens
        assert all(trie.parse(trie.spell(order)) == list(order) for order in orders)

    @pytest.mark.parametrize("generated", [[END], [2, END], [9], [2, SEPARATOR, 2, SEPARATOR], [4, 9, SEPARATOR]])
    def test_allows_the_end_after_anything_else(self, generated) -> None:
        """generate() continues with finished rows of a batch, and fails where nothing may follow."""
        assert LabelTrie(((2,), (3, 4)), SEPARATOR, END, 5).allowed(generated) == [END]


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> str:
    return tiny_backbone(tiny_folder, "writer")


@pytest.fixture
def task(companies, tmp_path):
    return task_of(companies, tmp_path)


class TestWriter:
    @pytest.mark.parametrize("trie", [True, False])
    @pytest.mark.parametrize("n_before", [0, 7])
    def test_does_not_depend_on_the_batch(self, backbone, task, trie, n_before) -> None:
        writer = Writer.load(NShot(backbone=backbone, question=" is in", trie=trie), task)
        before = writer.embed(list(range(5, 5 + n_before)))
        together = writer.decide(TEXTS, before)
        alone = np.concatenate([writer.decide([text], before) for text in TEXTS])
        np.testing.assert_array_equal(together, alone)
        assert not trie or ((together.sum(axis=1) >= 1) & (together.sum(axis=1) <= 3)).all()

    def test_takes_a_separator_that_is_in_no_label(self, backbone, task) -> None:
        tokenizer = Writer.load(NShot(backbone=backbone), task).encoder.tokenizer
        assert tokenizer.decode([spell_labels(["a;b", "c|"], tokenizer).separator]) == "/"
        with pytest.raises(ConfigError, match="must be a token of the backbone that is in no label"):
            spell_labels([";|/#~"], tokenizer)

    def test_refuses_a_backbone_without_end_token(self, tiny_folder, task) -> None:
        with pytest.raises(ConfigError, match="needs an end token"):
            NShot(backbone=tiny_backbone(tiny_folder, "bloom")).check(task)


class TestNShot:
    def test_begins_with_examples_and_their_labels(self, backbone, task) -> None:
        method = NShot(backbone=backbone, question=" is in", n_examples=2, lists_labels=True)
        writer = Writer.load(method, task)
        tokens = method.beginning(writer, task)
        text = writer.encoder.tokenizer.decode(tokens)
        assert text.startswith(" ; ".join(LABELS))
        for at in np.random.default_rng(0).permutation(len(task.whole))[:2]:
            labels = [LABELS[label] for label in np.flatnonzero(task.whole.targets[at])]
            assert f"is in {' ; '.join(labels)}" in text


class TestPromptTuning:
    SETTINGS: ClassVar = {
        "max_tokens": 32,
        "n_tokens": 4,
        "epochs": 2,
        "lr": 0.1,
        "question": " is in",
    }

    def test_loss_falls_and_the_decoder_stays(self, backbone, task, capsys) -> None:
        method = PromptTuning(backbone=backbone, **self.SETTINGS)
        writer = Writer.load(method, task)
        few = task.whole.select(list(range(64)))
        weights = {name: value.clone() for name, value in writer.model.state_dict().items()}
        first = method.train(writer, few, 0)
        losses = [float(line.split()[-1]) for line in capsys.readouterr().err.splitlines() if ": loss" in line]
        assert losses[-1] < losses[0]
        assert all(torch.equal(value, weights[name]) for name, value in writer.model.state_dict().items())
        assert torch.equal(method.train(writer, few, 0), first)
        assert not torch.equal(method.train(writer, few, 1), first)

    @pytest.mark.parametrize("trie", [True, False])
    def test_decides(self, backbone, task, trie) -> None:
        method = PromptTuning(backbone=backbone, **self.SETTINGS | {"epochs": 1}, max_rows=40, trie=trie)
        learned = method.learn(task)
        assert learned.decisions is None
        assert set(np.unique(learned.score(TEXTS))) <= {0.0, 1.0}
