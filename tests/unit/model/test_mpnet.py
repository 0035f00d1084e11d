"""MPNet with given keys and values: our pass against the library's, and against one written out."""

from __future__ import annotations

import math

import pytest
import torch

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.torch_engine import pad
from ptec_udf.model import mpnet
from tests.tiny import tiny_companies, tiny_network, tiny_text

TEXTS = [tiny_text(company) for company in tiny_companies(6, seed=4)]


@pytest.fixture
def model(load_tiny):
    return load_tiny("mpnet")[0]


@pytest.fixture
def batch(load_tiny):
    return pad([text.ids for text in Encoder(load_tiny("mpnet")[1], 48).encode(TEXTS)], 1)


def draw_prefix(n_layers, n_prompt=5):
    generator = torch.Generator().manual_seed(1)
    return [tuple(torch.randn(1, 4, n_prompt, 8, generator=generator) for _ in range(2)) for _ in range(n_layers)]


def written_out(model, ids, prefix):
    """One text, each head by itself."""
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


class TestRun:
    def test_without_a_prompt_is_the_library_s_pass(self, model, batch):
        with torch.inference_mode():
            expected = model(input_ids=batch[0], attention_mask=batch[1]).last_hidden_state
            found = mpnet.run(model, *batch, prefix=[])
        at_text = batch[1].bool()
        torch.testing.assert_close(found[at_text], expected[at_text], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("n_layers", [1, 2])
    def test_puts_the_prompt_before_the_upper_layers(self, model, batch, n_layers):
        prefix = draw_prefix(n_layers)
        with torch.inference_mode():
            found = mpnet.run(model, *batch, prefix=prefix)
            for row, (ids, mask) in enumerate(zip(*batch, strict=True)):
                expected = written_out(model, ids[mask.bool()], prefix)
                torch.testing.assert_close(found[row][mask.bool()], expected, rtol=1e-5, atol=1e-5)


class TestLowerLayers:
    def test_can_be_computed_once(self, load_tiny, batch):
        network = tiny_network(*load_tiny("mpnet"), n_tokens=4)
        network.prompt = torch.nn.Parameter(network.prompt[:, 64:].clone())  # of the upper one of two layers
        gradients, features = [], []
        for text in (batch[0], mpnet.below(network.backbone, *batch, 1)):
            network.zero_grad()
            features.append(network.features(text, batch[1]))
            network.head(features[-1]).square().sum().backward()
            gradients.append(network.prompt.grad.clone())
        assert gradients[0].abs().max() > 0
        torch.testing.assert_close(*features, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
