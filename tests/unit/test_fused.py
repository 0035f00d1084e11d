"""Parts computed in one step: as near to float32 as the library's own code in bfloat16, and only where they may be."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import RobertaPreLayerNormConfig, RobertaPreLayerNormModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from ptec_udf.engine.load import load_scorer
from ptec_udf.model import fused
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.model.fused import add_and_norm, normed, rotated
from tests.tiny import tiny_artifact, tiny_backbone, tiny_companies, tiny_text

TEXTS = [tiny_text(company) for company in tiny_companies(40)]
PARTS = {
    "bert": {"_with_gelu": 2, "_with_sum": 4},
    "mpnet": {"_with_gelu": 2, "_with_sum": 2},
    "llama": {"_attend": 2, "_gated": 2, "_decode": 2},
}
"""How often each stands in a backbone of two layers."""


@pytest.fixture(params=PARTS)
def family(request):
    return request.param


@pytest.fixture
def backbone(tmp_path, family):
    """A family's backbone in bfloat16."""
    return resolve(tiny_backbone(tmp_path, family)).load(torch.bfloat16)[0]


def parts_of(backbone):
    """The modules whose forward pass is not their class's own."""
    return {name: module for name, module in backbone.named_modules() if "forward" in vars(module)}


def test_each_family_has_its_parts_in_each_layer(backbone, family):
    fused.use_for_scoring(backbone)
    fused.use_for_scoring(backbone)
    found = parts_of(backbone)
    assert Counter(module.forward.args[0].__name__ for module in found.values()) == PARTS[family]
    for name, module in found.items():
        assert module.forward.args[1]() is module, name


@pytest.mark.parametrize("family", ["bert", "llama"], indirect=True)
@torch.no_grad()
def test_nearer_to_float32_than_parts_one_by_one(backbone):
    hidden = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    fused.use_for_scoring(backbone)
    for name, module in parts_of(backbone).items():
        if not name.endswith(("intermediate", "mlp", "attention.output")):
            continue
        given = [hidden, hidden.flip(1)] if name.endswith("attention.output") else [hidden]
        found, one_by_one = module(*given).float(), type(module).forward(module, *given).float()
        expected = type(module).forward(module.float(), *[part.float() for part in given])
        assert (found - expected).abs().mean() <= 1.05 * (one_by_one - expected).abs().mean() < 0.02
        module.bfloat16()


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "input"), ("bert", "deep"), ("mpnet", "deep"), ("llama", "input"), ("llama", "deep")],
    indirect=["family"],
)
def test_scores_stay_near_float32_whatever_the_batch(tmp_path, family, kind):
    artifact = load_artifact(tiny_artifact(tmp_path, family, kind))
    scorers = [load_scorer(artifact, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    assert [len(parts_of(scorer.network.backbone)) for scorer in scorers] == [0, sum(PARTS[family].values())]
    plain, together = (np.stack([one.logits for one in scorer.score(TEXTS)]) for scorer in scorers)
    alone = np.stack([scorers[1].score([text])[0].logits for text in TEXTS])
    assert np.abs(together - plain).max() < 0.35
    assert np.abs(together - plain).mean() < 0.03
    assert np.abs(together - alone).mean() < 0.03


def test_gradients_flow_by_the_library_s_own_code(backbone, monkeypatch):
    fused.use_for_scoring(backbone)
    monkeypatch.setattr(fused, "rotated", None)
    monkeypatch.setattr(fused, "normed", None)
    monkeypatch.setattr(fused.torch.ops.mkldnn, "_linear_pointwise", None)
    hidden = torch.ones(1, 7, 32, dtype=torch.bfloat16, requires_grad=True)
    backbone(inputs_embeds=hidden, attention_mask=torch.ones(1, 7)).last_hidden_state.float().square().sum().backward()
    assert hidden.grad is not None and hidden.grad.abs().sum() > 0


def test_nothing_changes_in_float32_or_where_torch_lacks_the_step(backbone, monkeypatch):
    fused.use_for_scoring(backbone.float())
    assert not parts_of(backbone)
    monkeypatch.setattr(fused, "_is_there", lambda: False)
    fused.use_for_scoring(backbone.bfloat16())
    assert not parts_of(backbone)


@pytest.mark.parametrize("fault", [AttributeError, TypeError, RuntimeError("could not create a primitive descriptor")])
def test_a_step_that_cannot_be_done_is_not_there(monkeypatch, fault):
    assert fused._is_there.__wrapped__()

    def fails(*arguments):
        raise fault

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", fails)
    assert not fused._is_there.__wrapped__()


def test_without_the_processor_s_instructions_the_library_s_own_code_runs():
    program = "from ptec_udf.model.fused import _is_there; print(_is_there())"
    told = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    ran = subprocess.run([sys.executable, "-c", program], env=told, check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "False"


def test_other_modules_of_that_form_are_left_alone():
    config = RobertaPreLayerNormConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4
    )
    backbone = RobertaPreLayerNormModel(config).bfloat16()
    fused.use_for_scoring(backbone)
    assert not parts_of(backbone)


def test_a_backbone_goes_when_nothing_needs_it(backbone):
    fused.use_for_scoring(backbone)
    left = [weakref.ref(module) for module in parts_of(backbone).values()]
    gc.disable()
    try:
        for name, _ in list(backbone.named_children()):
            delattr(backbone, name)
        assert [one() for one in left] == [None] * len(left)
    finally:
        gc.enable()


@torch.no_grad()
def test_norm_is_the_library_s():
    draw = torch.Generator().manual_seed(2)
    norm = LlamaRMSNorm(64).bfloat16()
    norm.weight.copy_(torch.randn(64, generator=draw))
    hidden = (torch.randn(3, 50, 64, generator=draw) * torch.logspace(-4, 3, 50)[:, None]).bfloat16().float()
    hidden[0, 0] = 0
    found, expected = normed(hidden, norm), norm(hidden.bfloat16())
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=0)  # the last digit of a number here and there
    assert (found != expected).float().mean() < 1e-3
    assert torch.equal(normed(hidden[1:], norm), found[1:])


@pytest.mark.parametrize("family", ["llama"], indirect=True)
@torch.no_grad()
def test_a_decoder_s_layers_add_up_in_float32(backbone):
    hidden = (1000 * torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(3))).bfloat16()

    def changed():
        states = backbone(inputs_embeds=hidden, output_hidden_states=True).hidden_states
        return (states[1] != hidden).float().mean()

    assert changed() < 0.5  # what a layer adds is below the last digit of most
    fused.use_for_scoring(backbone)
    assert changed() > 0.99


@torch.no_grad()
def test_rotation_is_the_library_s():
    draw = torch.Generator().manual_seed(1)
    queries, keys = (torch.randn(2, n_heads, 5, 8, generator=draw) for n_heads in (6, 2))
    angles = torch.randn(1, 5, 4, generator=draw).repeat(1, 1, 2)
    expected = apply_rotary_pos_emb(queries, keys, angles.cos(), angles.sin())
    for states, turned in zip((queries, keys), expected, strict=True):
        torch.testing.assert_close(rotated(states, angles.cos()[None], angles.sin()[None]), turned)


def test_sums_of_layers_are_not_rounded_from_one_to_the_next():
    draw = torch.Generator().manual_seed(0)
    norm = torch.nn.LayerNorm(64).double()
    first, *parts = (torch.randn(3, 5, 64, generator=draw).bfloat16() for _ in range(13))
    in_bfloat16 = copy.deepcopy(norm).bfloat16()
    exact, plain, ours = first.double(), first, first
    for part in parts:
        exact = norm(exact + part.double())
        plain = in_bfloat16(plain + part)
        ours = add_and_norm(ours, part, in_bfloat16)
    assert ours.dtype == torch.bfloat16
    far, near = ((made.double() - exact).square().mean().sqrt() for made in (plain, ours))
    assert near < far / 2


def test_what_was_not_rounded_is_kept_until_the_next_sum():
    norm, hidden = torch.nn.LayerNorm(8).bfloat16(), torch.ones(1, 2, 8).bfloat16()
    first = add_and_norm(hidden, hidden, norm)
    assert vars(first)
    second = add_and_norm(first, hidden, norm)
    assert not vars(first)
    assert vars(second)
