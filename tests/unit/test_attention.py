"""Attention without a softmax's shift: equal to the usual one as far as bfloat16 goes, and used where it is quicker."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import ModernBertConfig, ModernBertModel

from ptec_udf.engine.load import load_scorer
from ptec_udf.model import attention
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.attention import NAME, attend, is_quicker
from tests.tiny import tiny_artifact, tiny_companies, tiny_text

TEXTS = [tiny_text(company) for company in tiny_companies(40)]


def drawn(*shape, scale=1.0):
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))).bfloat16()


@pytest.fixture
def states():
    """Queries of 6 heads, keys and values of 2, 5 queries and 9 keys."""
    return drawn(3, 6, 5, 8), drawn(3, 2, 9, 8), drawn(3, 2, 9, 8)


def usual(queries, keys, values, mask):
    keys, values = (part.repeat_interleave(3, dim=1) for part in (keys, values))
    return scaled_dot_product_attention(*[part.double() for part in (queries, keys, values)], attn_mask=mask)


def masks():
    alike = torch.ones(3, 1, 1, 9, dtype=torch.bool)
    alike[1, ..., 4:] = False
    causal = torch.ones(5, 9, dtype=torch.bool).tril(diagonal=4).expand(3, 1, 5, 9)
    return {"none": None, "of keys": alike, "of each query": causal}


@pytest.mark.parametrize("name", ["none", "of keys", "of each query"])
@torch.no_grad()
def test_equal_to_the_usual_one(states, name):
    mask = masks()[name]
    found = attend(*states, scaling=8**-0.5, seen=mask)
    expected = usual(*states, None if mask is None else mask.expand(3, 6, 5, 9))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.03)
    assert (found.double() - expected).abs().mean() < 4e-3


@torch.no_grad()
def test_bias_is_added_and_may_hide(states):
    bias = drawn(1, 6, 5, 9)
    bias[..., 7:] = -1e4
    found = attend(*states, scaling=8**-0.5, bias=bias)
    torch.testing.assert_close(found.double(), usual(*states, bias.double()), rtol=0, atol=0.03)
    hidden = [part.clone() for part in states[1:]]
    for part in hidden:
        part[:, :, 7:] = 50.0
    assert torch.equal(attend(states[0], *hidden, scaling=8**-0.5, bias=bias), found)


@torch.no_grad()
def test_causal_is_a_mask_of_each_query(states):
    found = attend(*states, scaling=8**-0.5, causal=True)
    assert torch.equal(found, attend(*states, scaling=8**-0.5, seen=masks()["of each query"]))
    hidden = [part.clone() for part in states[1:]]
    for part in hidden:
        part[:, :, 8] = 5.0
    assert torch.equal(attend(states[0], *hidden, scaling=8**-0.5, causal=True)[:, :, :4], found[:, :, :4])


@pytest.mark.parametrize("name", ["none", "of keys", "of each query", "causal"])
@torch.no_grad()
def test_what_lies_far_from_0_in_one_head_of_a_text_changes_nothing_else(states, name):
    mask = {"causal": True} if name == "causal" else {"seen": masks()[name]}
    bias = drawn(1, 6, 5, 9)
    ordinary = attend(*states, scaling=8**-0.5, bias=bias, **mask)
    queries = states[0].clone()
    queries[1, 4] *= 1000
    found = attend(queries, *states[1:], scaling=8**-0.5, bias=bias, **mask)
    others = torch.ones(3, 6, dtype=torch.bool)
    others[1, 4] = False
    assert torch.equal(found[others], ordinary[others])
    seen = masks()["of each query" if name == "causal" else name]
    shift = bias.double().expand(3, -1, -1, -1)
    if seen is not None:
        shift = shift.masked_fill(~seen, -torch.inf)
    torch.testing.assert_close(found.double(), usual(queries, *states[1:], shift), rtol=0, atol=0.03)


@pytest.mark.parametrize(("scale", "shift"), [(100.0, 0.0), (1.0, 200.0), (1.0, -200.0)])
@torch.no_grad()
def test_scores_far_from_0_are_weighed_as_usual(states, scale, shift):
    queries, keys, values = states
    bias = torch.full((1, 6, 5, 9), shift).bfloat16()
    for name, mask in masks().items():
        found = attend(queries * scale, keys, values, scaling=8**-0.5, seen=mask, bias=bias)
        hidden = torch.zeros(3, 6, 5, 9).double()
        if mask is not None:
            hidden = hidden.masked_fill(~mask, -torch.inf)
        expected = usual(queries * scale, keys, values, hidden)
        assert (found.double() - expected).abs().mean() < 0.03, name


@torch.no_grad()
def test_more_scores_than_are_laid_out_are_left_to_the_fused_one(states, monkeypatch):
    monkeypatch.setattr(attention, "_MOST_SCORES", 10)
    monkeypatch.setattr(torch.Tensor, "exp_", None)
    found = attend(*states, scaling=8**-0.5)
    torch.testing.assert_close(found.double(), usual(*states, None), rtol=0, atol=0.03)


@torch.no_grad()
def test_local_layers_see_their_window():
    config = ModernBertConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
        local_attention=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ModernBertModel(config).eval()
    ids = torch.arange(3, 43)[None] % 50
    expected = model(input_ids=ids).last_hidden_state
    model = model.bfloat16()
    model.set_attn_implementation(NAME)
    found = model(input_ids=ids).last_hidden_state.float()
    assert (found - expected).abs().mean() < 0.02


def test_only_for_bfloat16_without_gradients():
    states = drawn(1)
    assert not is_quicker(states)
    with torch.no_grad():
        assert is_quicker(states)
        assert not is_quicker(states.float())


@pytest.mark.parametrize(
    ("family", "kind", "name"),
    [("bert", "deep", NAME), ("bert", "input", NAME), ("llama", "input", NAME), ("mpnet", "deep", None)],
)
def test_scoring_in_bfloat16_uses_it_and_stays_near_float32(tmp_path, monkeypatch, family, kind, name):
    calls = []
    for module in ("attention", "fused", "mpnet"):
        monkeypatch.setattr(f"ptec_udf.model.{module}.attend", lambda *a, **k: calls.append(1) or attend(*a, **k))
    artifact = load_artifact(tiny_artifact(tmp_path, family, kind))
    scorers = [load_scorer(artifact, dtype=dtype, batch_tokens=2048) for dtype in (torch.float32, torch.bfloat16)]
    if name:
        assert scorers[1].network.backbone.config._attn_implementation == name
    calls.clear()
    plain = np.stack([one.logits for one in scorers[0].score(TEXTS)])
    assert not calls
    together = np.stack([one.logits for one in scorers[1].score(TEXTS)])
    assert len(calls) == 2  # layers
    alone = np.stack([scorers[1].score([text])[0].logits for text in TEXTS])
    assert np.abs(together - plain).max() < 0.35
    assert np.abs(together - plain).mean() < 0.03
    assert np.abs(together - alone).mean() < 0.03
