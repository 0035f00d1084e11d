"""The parts of training: rows, steps, prompt, head, loss, LoRA, TF-IDF, checkpoint."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ptec_training.config import LossConfig, PromptConfig
from ptec_training.data.dataset import drop_tokens, read_splits, tokenise, training_steps
from ptec_training.data.folder import DATA
from ptec_training.fit.head import StandardisedHead, positive_weights
from ptec_training.fit.prompt import initial_prompt
from ptec_udf.engine.encoder import Encoder
from ptec_udf.model.prefix import BackboneShape, keys_values_of_embeddings, split_deep_prompt
from tests.tiny import LABELS, tiny_extract, write_rows


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    """An extract in which every text occurs three times."""
    folder = tiny_extract(tmp_path_factory.mktemp("extracts") / "companies", n=120)
    rows = pq.read_table(folder / DATA).to_pylist()
    write_rows(folder, [row | {"key": f"{row['key']}-{copy}"} for copy in range(3) for row in rows])
    return folder


class TestRows:
    def test_equal_texts_are_on_one_side(self, extract):
        splits = read_splits(extract, validation_share=0.3)
        train, validation = set(splits["train"].texts), set(splits["validation"].texts)
        assert train
        assert validation
        assert not train & validation
        assert 0.15 < len(splits["validation"]) / (3 * 96) < 0.45
        assert set(splits) == {"train", "validation"}

    def test_max_rows_keeps_sides(self, extract):
        everything, some = (read_splits(extract, validation_share=0.3, max_rows=n) for n in (None, 90))
        assert len(some["train"]) + len(some["validation"]) == 90
        assert all(set(some[split].keys) < set(everything[split].keys) for split in some)

    def test_unlabelled_and_blank_rows_are_left_out(self, load_tiny, tmp_path):
        folder = tiny_extract(tmp_path / "x", n=40)
        rows = pq.read_table(folder / DATA).to_pylist()
        blank = rows[2] | {"key": "blank", "text": "\u200b"}
        write_rows(folder, [*rows, rows[2] | {"key": "unlabelled", "labels": None}, blank])
        encoder = Encoder(load_tiny("bert")[1], 32)
        splits = read_splits(folder, validation_share=0.3, others=("dev", "test"))
        keys = {key for part in splits.values() for key in tokenise(part, encoder).keys}
        assert keys == {row["key"] for row in rows}


class TestSteps:
    @pytest.mark.parametrize(("n_rows", "batch_size"), [(1, 4), (103, 4), (103, 32)])
    def test_each_row_once_an_epoch(self, n_rows, batch_size):
        lengths = [1 + 7 * at % 30 for at in range(n_rows)]
        first, again = (
            list(training_steps(lengths, batch_size=batch_size, generator=torch.Generator().manual_seed(1)))
            for _ in range(2)
        )
        assert sorted(row for step in first for row in step) == list(range(n_rows))
        assert first == again

    def test_first_and_last_token_are_never_dropped(self):
        torch.manual_seed(0)
        ids = list(range(1000))
        once, again = drop_tokens(ids, 0.2), drop_tokens(ids, 0.2)
        assert once != again
        assert all((left[0], left[-1]) == (0, 999) and 750 < len(left) < 850 for left in (once, again))
        assert drop_tokens(ids, 0.0) == ids


class TestPrompt:
    def prompt_of(self, load_tiny, family, n_tokens, kind="input"):
        model, tokenizer = load_tiny(family)
        generator = torch.Generator().manual_seed(n_tokens)
        return initial_prompt(PromptConfig(kind=kind, n_tokens=n_tokens), model, tokenizer, LABELS, generator)

    def test_is_the_tokens_of_label_names(self, load_tiny):
        model, tokenizer = load_tiny("bert")
        ids, table = tokenizer.convert_tokens_to_ids(list(LABELS)), model.get_input_embeddings().weight
        assert torch.equal(self.prompt_of(load_tiny, "bert", 5), table[ids])
        assert torch.equal(self.prompt_of(load_tiny, "bert", 12), table[[*ids, *ids, *ids[:2]]])

    @pytest.mark.parametrize(("family", "width"), [("bert", 128), ("llama", 64), ("bloom", 128)])
    def test_deep_is_one_pass_over_the_embeddings(self, load_tiny, family, width):
        model, deep = load_tiny(family)[0], self.prompt_of(load_tiny, family, 5, "deep")
        assert (deep.shape, deep.dtype) == ((5, width), torch.float32)
        expected = keys_values_of_embeddings(model, self.prompt_of(load_tiny, family, 5))
        for found, wanted in zip(split_deep_prompt(deep, BackboneShape.of(model)), expected, strict=True):
            assert torch.equal(found[0], wanted[0])
            assert torch.equal(found[1], wanted[1])


class TestHead:
    def head(self, rates, n=200):
        generator = torch.Generator().manual_seed(3)
        features = torch.randn(n, 16, generator=generator) * torch.linspace(0.0, 3.0, 16) + 5
        names = torch.randn(len(rates), 16, generator=generator) * 3 + 5
        return StandardisedHead(features, torch.tensor(rates), names).eval(), features, names

    def test_starts_from_base_rates_and_label_names(self):
        head, features, names = self.head([0.1] * 5)
        assert head(names).argmax(dim=1).tolist() == [0, 1, 2, 3, 4]
        assert (head(features) - head.linear.bias).std().item() == pytest.approx(1, abs=1e-4)
        torch.testing.assert_close(torch.sigmoid(head.linear.bias), torch.full((5,), 0.1))

    def test_fused_has_the_same_logits(self):
        head, features, _ = self.head([0.1, 0.2, 0.5])
        torch.testing.assert_close(head.fused()(features), head(features), rtol=1e-4, atol=1e-4)


class TestLoss:
    def test_positive_weights(self):
        targets = np.zeros((100, 3), np.float32)
        targets[:80, 0] = targets[:5, 1] = targets[:1, 2] = 1
        found = positive_weights(targets, LossConfig(pos_weight_power=1, pos_weight_cap=20))
        assert found.tolist() == pytest.approx([1, 16, 20])
        assert positive_weights(targets, LossConfig(pos_weight_power=0)).tolist() == [1, 1, 1]
