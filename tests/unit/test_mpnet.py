"""MPNet behind given keys and values: our pass, against the library's and against one written out."""

from __future__ import annotations

import errno
import math
import os
import re

import numpy as np
import pytest
import torch

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.torch_engine import load_scorer, pad
from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.model import mpnet
from ptec_udf.model.backbone import resolve
from ptec_udf.model.network import PtecNetwork
from tests.tiny import tiny_backbone, tiny_companies, tiny_network, tiny_text
from tests.unit.trainings import stop_after
from training.config import LoraSettings
from training.data.dataset import read_splits
from training.evaluate.metrics import mean_average_precision
from training.fit import lora

TEXTS = [tiny_text(company) for company in tiny_companies(6, seed=4)]


@pytest.fixture
def model(load_tiny):
    return load_tiny("mpnet")[0]


@pytest.fixture
def batch(load_tiny):
    return pad([text.ids for text in Encoder(load_tiny("mpnet")[1], 48).encode(TEXTS)], 1)


def prefix_of(n_layers, n_prompt=5):
    generator = torch.Generator().manual_seed(1)
    return [tuple(torch.randn(1, 4, n_prompt, 8, generator=generator) for _ in range(2)) for _ in range(n_layers)]


def at_text(states, mask):
    return states[mask.bool()]


def test_without_a_prompt_it_is_the_library_s_pass(model, batch):
    with torch.inference_mode():
        expected = model(input_ids=batch[0], attention_mask=batch[1], output_hidden_states=True).hidden_states
        found = mpnet.run(model, *batch, prefix=[]).hidden_states
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(at_text(ours, batch[1]), at_text(theirs, batch[1]), rtol=1e-5, atol=1e-5)


def written_out(model, ids, prefix):
    """One text, each head and each position for itself."""
    hidden = model.embeddings(input_ids=ids[None])[0]
    distances = model.encoder.compute_position_bias(hidden[None])[0]
    n_below = len(model.encoder.layer) - len(prefix)
    for at, layer in enumerate(model.encoder.layer):
        part = layer.attention.attn
        queries, keys, values = (f(hidden).view(len(ids), 4, 8) for f in (part.q, part.k, part.v))
        mixed = torch.empty_like(queries)
        for head in range(4):
            k, v, bias = keys[:, head], values[:, head], distances[head]
            if at >= n_below:
                before = [given[0, head] for given in prefix[at - n_below]]
                k, v = torch.cat([before[0], k]), torch.cat([before[1], v])
                bias = torch.cat([torch.zeros(len(ids), len(before[0])), bias], dim=1)
            mixed[:, head] = torch.softmax(queries[:, head] @ k.T / math.sqrt(8) + bias, dim=1) @ v
        attended = layer.attention.LayerNorm(part.o(mixed.flatten(1)) + hidden)
        hidden = layer.output(layer.intermediate(attended), attended)
    return hidden


@pytest.mark.parametrize("n_layers", [1, 2])
def test_prompt_is_seen_by_every_position_of_the_upper_layers(model, batch, n_layers):
    prefix = prefix_of(n_layers)
    with torch.inference_mode():
        found = mpnet.run(model, *batch, prefix=prefix).last_hidden_state
        for row, (ids, mask) in enumerate(zip(*batch, strict=True)):
            expected = written_out(model, ids[mask.bool()], prefix)
            torch.testing.assert_close(at_text(found[row], mask), expected, rtol=1e-5, atol=1e-5)


def test_keys_and_values_are_those_that_a_text_of_such_embeddings_has(model):
    embeddings = model.get_input_embeddings().weight[7:12]
    with torch.inference_mode():
        made = mpnet.keys_values(model, embeddings)
        hidden = model(inputs_embeds=embeddings[None], output_hidden_states=True).hidden_states
    for layer, before, (keys, values) in zip(model.encoder.layer, hidden[:-1], made, strict=True):
        part = layer.attention.attn
        for given, found in ((part.k, keys), (part.v, values)):
            torch.testing.assert_close(found[0].transpose(0, 1).flatten(1), given(before[0]), rtol=1e-5, atol=1e-5)


def test_what_is_below_the_prompt_can_be_computed_once(load_tiny, batch):
    network = tiny_network(*load_tiny("mpnet"), n_tokens=4)
    network.prompt = torch.nn.Parameter(network.prompt[:, 64:].clone())  # of the upper one of two layers
    gradients, features = [], []
    for text in (batch[0], mpnet.below(network.backbone, *batch, 1)):
        network.zero_grad()
        features.append(network.features(text, batch[1]))
        network.head(features[-1]).square().sum().backward()
        gradients.append(network.prompt.grad.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(features[1], features[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_what_is_below_lora_can_be_computed_once(tiny_folder, batch):
    backbone = resolve(tiny_backbone(tiny_folder, "mpnet")).load()[0]
    lora.put_into(backbone, LoraSettings(rank=2, layers=["q", "v"], upper_layers=1), seed=1)
    changes = lora.weights(backbone)
    assert {name.split(".")[4] for name in changes} == {"1"}
    network = PtecNetwork(
        backbone=backbone, kind=None, prompt=None, head=torch.nn.Identity(), pooling="mean", n_upper=1
    )
    trained = [value for value in backbone.parameters() if value.requires_grad]
    for value in trained:
        torch.nn.init.normal_(value, std=0.1, generator=torch.Generator().manual_seed(2))
    found = []
    for text in (batch[0], mpnet.below(backbone, *batch, 1)):
        features = network.features(text, batch[1])
        found.append([features, *torch.autograd.grad(features.square().sum(), trained)])
    assert len(found[0]) == 1 + len(changes) == 5
    for plain, short in zip(*found, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(short, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("setting", ["prompt.n_upper_layers={}", "lora={{layers: [q], upper_layers: {}}}"])
@pytest.mark.parametrize(
    ("family", "n_layers", "fault"),
    [("bert", 1, "must be null but for MPNet, was: 1 for bert"), ("mpnet", 3, "must be at most 2, .* was: 3")],
)
def test_layers_that_cannot_be_adapted_are_refused(run, tmp_path, setting, family, n_layers, fault):
    with pytest.raises(ConfigError, match=rf"{re.match('[a-z]+', setting)[0]}\.upper_layers {fault}"):
        run(tmp_path / "out", setting.format(n_layers), family=family)


def test_lora_cannot_name_a_layer_below_the_upper_ones(run, tmp_path):
    layers = "layers: [encoder.layer.0.attention.attn.q, v], upper_layers: 1"
    with pytest.raises(ConfigError, match=r"lora\.layers must be kinds of layers where lora\.upper_layers chooses"):
        run(tmp_path / "out", f"lora={{{layers}}}", family="mpnet")


def test_lora_in_upper_layers_scores_as_measured_and_is_started_from_in_its_form(run, companies, tmp_path):
    form = "lora={{rank: 2, lr: .01, layers: [q, v], upper_layers: {}}}"
    made = run(tmp_path / "made", form.format(1), family="mpnet", epochs=1)
    assert {name.split(".")[4] for name in made.adapter} == {"1"}
    dev = read_splits(companies, validation_share=0.15)["dev"]
    logits = np.stack([text.logits for text in load_scorer(made).score(dev.texts)])
    measured = made.metrics["splits"]["dev"]["overall"]["map"]
    assert mean_average_precision(logits, dev.targets) == pytest.approx(measured, abs=1e-6)
    start = f"start_from={tmp_path / 'made'}"
    with pytest.raises(ConfigError, match=r"lora\.upper_layers must be those of the model to start from, 4 matrices"):
        run(tmp_path / "other", start, form.format(2), family="mpnet", epochs=1)
    assert run(tmp_path / "next", start, form.format(1), family="mpnet", epochs=1).metrics["started_from"]


@pytest.mark.parametrize("form", ["prompt.n_upper_layers=1", "prompt.n_upper_layers=null", "prompt.kind=prefix"])
def test_artifact_scores_as_measured_and_is_started_from_in_its_form(run, companies, tmp_path, form):
    made = run(tmp_path / "made", form, family="mpnet", epochs=1)
    dev = read_splits(companies, validation_share=0.15)["dev"]
    logits = np.stack([text.logits for text in load_scorer(made).score(dev.texts)])
    n_prompted = 1 if form.endswith("1") else 2
    assert made.prompt.shape == (4, n_prompted * 2 * 32)
    assert made.manifest.prompt.n_upper_layers == (1 if n_prompted == 1 else None)
    measured = made.metrics["splits"]["dev"]["overall"]["map"]
    assert mean_average_precision(logits, dev.targets) == pytest.approx(measured, abs=1e-6)
    if n_prompted == 1:
        start = f"start_from={tmp_path / 'made'}"
        with pytest.raises(ConfigError, match=r"prompt\.upper_layers must be that of the model to start"):
            run(tmp_path / "other", start, family="mpnet")
        assert run(tmp_path / "next", start, form, family="mpnet", epochs=1).metrics["started_from"] == made.model_id


def test_interrupted_training_finds_what_is_below_its_prompt_and_ends_as_if_it_had_not_been(run, tmp_path, monkeypatch):
    form = ("prompt.n_upper_layers=1", "stopping.refit=true")
    whole = run(tmp_path / "whole", *form, family="mpnet")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=1, training="choice")
        run(tmp_path / "cut", *form, family="mpnet")
    monkeypatch.setattr("training.fit.layer_cache._make", None)  # it is there
    assert run(tmp_path / "cut", *form, family="mpnet").model_id == whole.model_id
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "adapter", ["prompt={{n_tokens: 4, upper_layers: {}}}", "lora={{layers: [q], upper_layers: {}}}"]
)
def test_layers_below_the_adapted_ones_are_counted_once(run, tmp_path, adapter):
    form = ("stopping.refit=false", "token_dropout=0")
    upper = [
        run(tmp_path / f"upper-{epochs}", adapter.format(1), *form, family="mpnet", epochs=epochs) for epochs in (1, 2)
    ]
    whole = run(tmp_path / "whole", adapter.format("null"), *form, family="mpnet", epochs=1).metrics["learning"]["flop"]
    one, two = (made.metrics["learning"]["flop"] for made in upper)
    assert two - one == pytest.approx(whole / 2, rel=0.1)  # one of two layers; the head has few weights
    assert (
        (two - one) / 4 < one - (two - one) < (two - one) / 2
    )  # forward alone, with validation and without a way back


def test_a_disk_without_room_is_told_before_any_work(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(TrainingError, match=r"upper_layers needs 0\.0 GB in .* \(No space left on device\)"):
        run(tmp_path / "out", "prompt.n_upper_layers=1", family="mpnet")
    assert not list(tmp_path.rglob("*.f16*"))


@pytest.mark.parametrize("behind_a_prompt", [False, True])
def test_in_bfloat16_attention_in_parts_has_the_gradients_of_the_fused_one(behind_a_prompt):
    generator = torch.Generator().manual_seed(3)
    length = 9 + 5 * behind_a_prompt
    shapes = [(2, 4, 9, 8), (2, 4, length, 8), (2, 4, length, 8)]
    parts = [torch.randn(shape, generator=generator) for shape in shapes]
    bias = torch.randn(2, 4, 9, length, generator=generator)

    def gradients(dtype):
        own = [part.to(dtype).requires_grad_() for part in parts]
        mixed = mpnet._attend(*own, bias.to(dtype))
        return [mixed, *torch.autograd.grad(mixed.float().square().sum(), own)]

    for in_parts, fused in zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True):
        torch.testing.assert_close(in_parts.float(), fused, rtol=0.05, atol=0.05)


def test_in_the_arithmetic_of_training_sums_stay_in_float32(model, batch):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert mpnet.below(model, *batch, 1).dtype == torch.float32
