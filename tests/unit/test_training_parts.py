"""The parts of training, one by one: rows, steps, head, first prompt."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch

from ptec_udf.config_file import load_config
from ptec_udf.engine.encoder import Encoder
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.model.prefix import BackboneShape, keys_values_of_embeddings, split_deep_prompt
from tests.tiny import LABELS, tiny_extract, tiny_network, write_rows
from training.config import PromptConfig, TrainConfig
from training.data.dataset import drop_tokens, read_splits, tokenised, training_steps
from training.data.folder import DATA
from training.fit.checkpoint import Checkpoint
from training.fit.head import StandardisedHead
from training.fit.prompt import initial_prompt
from training.fit.trainer import Trainer


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    """An extract in which every text stands three times."""
    folder = tiny_extract(tmp_path_factory.mktemp("extracts") / "companies", n=120)
    rows = pq.read_table(folder / DATA).to_pylist()
    write_rows(folder, [row | {"key": f"{row['key']}-{copy}"} for copy in range(3) for row in rows])
    return folder


def splits_of(folder, load_tiny, validation_share=0.3, most_rows=None):
    encoder = Encoder(load_tiny("bert")[1], 32)
    examples = read_splits(folder, validation_share=validation_share, most_rows=most_rows)
    return {split: tokenised(part, encoder) for split, part in examples.items()}


def texts_of(folder, rows):
    text_of = {row["key"]: row["text"] for row in pq.read_table(folder / DATA).to_pylist()}
    return {text_of[key] for key in rows.keys}


def test_equal_texts_stand_on_one_side_of_train_and_validation(extract, load_tiny):
    splits = splits_of(extract, load_tiny)
    train, validation = texts_of(extract, splits["train"]), texts_of(extract, splits["validation"])
    assert train
    assert validation
    assert not train & validation
    assert len(splits["train"]) + len(splits["validation"]) == 3 * 96
    assert 0.15 < len(splits["validation"]) / (3 * 96) < 0.45


def test_dev_and_test_come_as_they_are(extract, load_tiny):
    splits = splits_of(extract, load_tiny)
    expected = {row["key"]: row["split"] for row in pq.read_table(extract / DATA).to_pylist()}
    for split in ("dev", "test"):
        assert {key for key, value in expected.items() if value == split} == set(splits[split].keys)


def test_targets_follow_the_labels(extract, load_tiny):
    labels = {row["key"]: row["labels"] for row in pq.read_table(extract / DATA).to_pylist()}
    for rows in splits_of(extract, load_tiny).values():
        for key, target in zip(rows.keys, rows.targets, strict=True):
            assert [name for name, value in zip(LABELS, target, strict=True) if value] == labels[key]


def test_order_of_the_files_does_not_matter(extract, load_tiny, tmp_path):
    folder = tiny_extract(tmp_path / "x")
    rows = pq.read_table(extract / DATA).to_pylist()
    write_rows(folder, rows[::-1])
    expected, found = splits_of(extract, load_tiny), splits_of(folder, load_tiny)
    for split, those in expected.items():
        assert found[split].keys == those.keys


def test_fewer_rows_are_the_same_rows_on_the_same_sides(extract, load_tiny):
    everything, some = splits_of(extract, load_tiny), splits_of(extract, load_tiny, most_rows=90)
    assert len(some["train"]) + len(some["validation"]) == 90
    for split in ("train", "validation"):
        assert set(some[split].keys) < set(everything[split].keys)
    assert some["dev"].keys == everything["dev"].keys


def test_extract_is_read_by_uri_too(load_tiny, tmp_path):
    folder = tiny_extract(tmp_path / "x", n=40)
    by_path, by_uri = splits_of(folder, load_tiny), splits_of(f"file://{folder}", load_tiny)
    assert {split: rows.keys for split, rows in by_uri.items()} == {split: rows.keys for split, rows in by_path.items()}


def test_rows_without_labels_or_text_train_nothing(load_tiny, tmp_path):
    folder = tiny_extract(tmp_path / "x", n=40)
    rows = pq.read_table(folder / DATA).to_pylist()
    blank = {"text": "\u200b", "split": "train"}
    added = [rows[2] | {"key": "unlabelled", "labels": None}, rows[2] | {"key": "blank"} | blank]
    write_rows(folder, [*rows, *added, rows[2] | {"key": "none of them", "labels": []}])
    keys = {key for part in splits_of(folder, load_tiny).values() for key in part.keys}
    assert keys == {row["key"] for row in rows} | {"none of them"}


def test_extract_too_small_for_both_sides_is_refused(load_tiny, tmp_path):
    with pytest.raises(SourceError, match=r"both need rows with a label, had 0 and \d+ labels on 0 and 32 rows"):
        splits_of(tiny_extract(tmp_path / "x", n=40), load_tiny, validation_share=0.9999)


def test_training_rows_without_any_label_are_refused(load_tiny, tmp_path):
    folder = tiny_extract(tmp_path / "x", n=40)
    rows = pq.read_table(folder / DATA).to_pylist()
    write_rows(folder, [row | {"labels": [] if row["split"] == "train" else row["labels"]} for row in rows])
    with pytest.raises(SourceError, match="had 0 and 0 labels"):
        splits_of(folder, load_tiny)


@pytest.mark.parametrize(("n_rows", "batch_rows"), [(1, 4), (8, 4), (103, 4), (103, 32)])
def test_every_row_is_in_one_step_of_an_epoch(n_rows, batch_rows):
    lengths = [1 + 7 * at % 30 for at in range(n_rows)]
    steps = list(training_steps(lengths, batch_rows=batch_rows, generator=torch.Generator().manual_seed(1)))
    assert sorted(row for step in steps for row in step) == list(range(n_rows))
    assert len(steps) == -(-n_rows // batch_rows)
    again = list(training_steps(lengths, batch_rows=batch_rows, generator=torch.Generator().manual_seed(1)))
    assert steps == again


def test_steps_hold_rows_of_about_one_length():
    lengths = [1 + 7 * at % 64 for at in range(512)]
    steps = list(training_steps(lengths, batch_rows=32, generator=torch.Generator().manual_seed(1)))
    assert max(max(lengths[row] for row in step) - min(lengths[row] for row in step) for step in steps) < 12


def test_dropped_tokens_are_others_each_time_and_never_the_first_or_last():
    torch.manual_seed(0)
    ids = list(range(1000))
    once, again = drop_tokens(ids, 0.2), drop_tokens(ids, 0.2)
    assert once != again
    for left in (once, again):
        assert left == sorted(set(left))
        assert (left[0], left[-1]) == (0, 999)
        assert 750 < len(left) < 850
    assert drop_tokens([1, 2], 0.99) == [1, 2]
    assert drop_tokens(ids, 0.0) == ids


def updated(load_tiny, extract, tmp_path, micro_batch_tokens):
    """Weights after one plain gradient step on 24 rows, which clipping leaves alone."""
    options = [f"extract={extract}", f"out={tmp_path / 'out'}", f"optimiser.micro_batch_tokens={micro_batch_tokens}"]
    config = load_config(TrainConfig, None, [*options, "optimiser.clip_norm=1000", "token_dropout=0"])
    network = tiny_network(*load_tiny("bert"), "deep")
    splits = splits_of(extract, load_tiny)
    trainer = Trainer(
        network=network,
        rows=splits["train"],
        validation=splits["validation"],
        weights=torch.linspace(1, 3, len(LABELS)),
        config=config,
        bfloat16=False,
        checkpoint=Checkpoint(tmp_path / "state", ""),
        epochs=1,
    )
    plain = torch.optim.SGD([network.prompt, *network.head.parameters()], lr=1.0)
    loss = trainer._step(list(range(24)), [len(ids) for ids in trainer.rows.inputs], plain)
    return loss, [network.prompt.detach(), *(parameter.detach() for parameter in network.head.parameters())]


def test_step_in_many_passes_is_the_step_in_one(load_tiny, extract, tmp_path):
    loss, whole = updated(load_tiny, extract, tmp_path, 8192)
    started = tiny_network(*load_tiny("bert"), "deep")
    assert (whole[0] - started.prompt).abs().max() > 1e-3
    for micro_batch_tokens in (1, 60):
        loss_in_parts, in_parts = updated(load_tiny, extract, tmp_path, micro_batch_tokens)
        assert loss_in_parts == pytest.approx(loss, rel=1e-5)
        for found, expected in zip(in_parts, whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_fused_head_gives_the_logits_of_the_standardised_one():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 16, generator=generator) * torch.linspace(0.0, 3.0, 16) + 5
    head = StandardisedHead(features, torch.linspace(0.1, 0.5, 4), generator)
    head.linear.weight.data.normal_(generator=generator)
    torch.testing.assert_close(head.fused()(features), head(features), rtol=1e-4, atol=1e-4)


def test_head_starts_near_the_base_rates_and_is_not_upset_by_a_constant_feature():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 16, generator=generator)
    features[:, 3] = 7.0
    rates = torch.tensor([0.05, 0.5])
    found = torch.sigmoid(StandardisedHead(features, rates, generator)(features)).mean(dim=0)
    torch.testing.assert_close(found, rates, rtol=0, atol=0.02)


def prompt_of(load_tiny, family, **settings):
    model, tokenizer = load_tiny(family)
    config = PromptConfig(**{"kind": "input", "init": "labels"} | settings)
    return initial_prompt(config, model, tokenizer, LABELS, torch.Generator().manual_seed(settings["n_tokens"]))


INITS = [{"init": "labels"}, {"init": "text", "text": "solar power"}, {"init": "random"}]


@pytest.mark.parametrize("init", INITS, ids=lambda init: init["init"])
@pytest.mark.parametrize("n_tokens", [1, 7, 40])
@pytest.mark.parametrize(("family", "width"), [("bert", 128), ("llama", 64), ("bloom", 128)])
def test_first_prompt_has_the_form_that_peft_keeps(load_tiny, family, width, n_tokens, init):
    assert prompt_of(load_tiny, family, n_tokens=n_tokens, **init).shape == (n_tokens, 32)
    deep = prompt_of(load_tiny, family, kind="deep", n_tokens=n_tokens, **init)
    assert deep.shape == (n_tokens, width)
    assert deep.dtype == torch.float32
    assert not deep.requires_grad


def test_prompt_from_labels_is_their_tokens_without_special_ones(load_tiny):
    model, tokenizer = load_tiny("bert")
    ids = tokenizer.convert_tokens_to_ids(list(LABELS))
    table = model.get_input_embeddings().weight
    assert torch.equal(prompt_of(load_tiny, "bert", n_tokens=5), table[ids])
    assert torch.equal(prompt_of(load_tiny, "bert", n_tokens=12), table[[*ids, *ids, *ids[:2]]])
    some = prompt_of(load_tiny, "bert", n_tokens=3)
    at = [next(place for place, row in enumerate(table[ids]) if torch.equal(row, mine)) for mine in some]
    assert at == sorted(set(at))


def test_prompt_from_a_text_is_its_tokens(load_tiny):
    model, tokenizer = load_tiny("llama")
    ids = tokenizer.convert_tokens_to_ids(["solar", "power"])
    expected = model.get_input_embeddings().weight[ids]
    assert torch.equal(prompt_of(load_tiny, "llama", n_tokens=2, init="text", text="solar power"), expected)


def test_random_prompt_has_the_spread_of_the_embeddings(load_tiny):
    table = load_tiny("bert")[0].get_input_embeddings().weight
    prompt = prompt_of(load_tiny, "bert", n_tokens=400, init="random")
    torch.testing.assert_close(prompt.std(dim=0), table.std(dim=0), rtol=0.3, atol=0)
    torch.testing.assert_close(prompt.mean(dim=0), table.mean(dim=0), rtol=0, atol=0.05)


def test_deep_prompt_starts_as_one_pass_over_the_embeddings(load_tiny):
    model = load_tiny("llama")[0]
    deep = prompt_of(load_tiny, "llama", kind="deep", n_tokens=5)
    expected = keys_values_of_embeddings(model, prompt_of(load_tiny, "llama", n_tokens=5))
    for made, given in zip(split_deep_prompt(deep, BackboneShape.of(model)), expected, strict=True):
        assert torch.equal(made[0], given[0])
        assert torch.equal(made[1], given[1])


def test_prompt_from_a_text_without_tokens_is_refused(load_tiny):
    with pytest.raises(ConfigError, match="must have at least one token; use init: random"):
        prompt_of(load_tiny, "bert", n_tokens=4, init="text", text=" ")


def test_head_from_label_names_gives_each_name_its_own_label_and_logits_of_spread_one():
    generator = torch.Generator().manual_seed(3)
    features, names = torch.randn(200, 16, generator=generator) * 3 + 1, torch.randn(5, 16, generator=generator) * 3 + 1
    head = StandardisedHead(features, torch.full((5,), 0.1), generator, label_features=names).eval()
    assert head(names).argmax(dim=1).tolist() == [0, 1, 2, 3, 4]
    assert (head(features) - head.linear.bias).std().item() == pytest.approx(1, abs=1e-4)
    random = StandardisedHead(features, torch.full((5,), 0.1), generator).eval()
    assert (random(features) - random.linear.bias).std().item() < 0.2
