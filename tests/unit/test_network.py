"""A text's logits depend on the text alone, and the forward pass is the one that PEFT defines."""

from __future__ import annotations

import warnings

import pytest
import torch
from peft import PeftModel
from transformers import DistilBertConfig, DistilBertModel

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.torch_engine import pad
from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.model.network import PtecNetwork, accepts_keys_values, is_causal
from ptec_udf.model.prefix import BackboneShape, join_deep_prompt, split_deep_prompt
from tests.tiny import FAMILIES, KINDS, tiny_artifact, tiny_backbone, tiny_companies, tiny_network, tiny_text
from tests.tolerance import assert_logits_close
from training.config import Recipe
from training.fit.forward import use_eager_attention
from training.fit.prompt import check_backbone

EVERY_FORM = [*((family, kind) for family in FAMILIES for kind in KINDS), *(("mpnet", kind) for kind in KINDS)]


@pytest.fixture(params=EVERY_FORM, ids="-".join)
def form(request):
    return request.param


def ids_of(tokenizer, n=12):
    texts = [tiny_text(company) for company in tiny_companies(n, seed=5)] + ["a"]
    return [text.ids for text in Encoder(tokenizer, 48).encode(texts)]


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("frozen", [False, True], ids=["training", "scoring"])
def test_logits_do_not_change_with_the_batch_or_its_padding(load_tiny, form, pooling, frozen):
    family, kind = form
    model, tokenizer = load_tiny(family)
    network = tiny_network(model, tokenizer, kind, pooling=pooling)
    if frozen:
        network.freeze_prompt()
    ids = ids_of(tokenizer)
    assert len({len(row) for row in ids}) > 5
    with torch.inference_mode():
        alone = torch.cat([network(*pad([row], 0)) for row in ids])
        together = network(*pad(ids, 0))
        padding = torch.full((len(ids), 9), 7)
        long_ids, mask = pad(ids, 7)
        padded = network(torch.cat([long_ids, padding], 1), torch.cat([mask, padding * 0], 1))
    assert alone.std(dim=0).min() > 0.01
    assert_logits_close(together, alone)
    assert_logits_close(padded, alone)


def test_prompt_changes_the_logits(load_tiny, form):
    family, kind = form
    model, tokenizer = load_tiny(family)
    network = tiny_network(model, tokenizer, kind)
    ids = ids_of(tokenizer)
    with torch.no_grad():
        before = network(*pad(ids, 0))
        network.prompt.mul_(-1)
        assert (network(*pad(ids, 0)) - before).abs().max() > 0.01


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_cached_prompt_gives_what_one_pass_over_prompt_and_text_gives(load_tiny, family):
    model, tokenizer = load_tiny(family)
    network = tiny_network(model, tokenizer, "input")
    batch = pad(ids_of(tokenizer), 0)
    with torch.no_grad():
        cached = network.features(*batch)
        network.caches_prompt = False
        plain = network.features(*batch)
    torch.testing.assert_close(cached, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_cached_prompt_has_the_gradient_of_one_pass(load_tiny, family):
    model, tokenizer = load_tiny(family)
    network = tiny_network(model, tokenizer, "input")
    gradients = []
    for caches in (True, False):
        network.caches_prompt = caches
        network.zero_grad()
        network(*pad(ids_of(tokenizer), 0)).square().sum().backward()
        gradients.append(network.prompt.grad.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)


def test_cache_of_the_prompt_is_not_grown_by_batches(load_tiny):
    model, tokenizer = load_tiny("llama")
    network = tiny_network(model, tokenizer, "deep")
    network.freeze_prompt()
    batch = pad(ids_of(tokenizer), 0)
    with torch.inference_mode():
        assert torch.equal(network(*batch), network(*batch))


def hidden_states(network, ids):
    run = network._hidden_cached if network.caches_prompt else network._hidden_plain
    return run(ids, torch.ones_like(ids))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_the_adapter_and_gives_the_same_hidden_states(tiny_folder, family, kind):
    out = tiny_artifact(tiny_folder, family, kind)
    artifact = load_artifact(out)
    backbone, tokenizer = resolve(tiny_backbone(tiny_folder, family)).load()
    network = PtecNetwork(
        backbone=backbone, kind=kind, prompt=artifact.prompt, head=torch.nn.Identity(), pooling="mean"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT still passes the cache under its old name
        wrapped = PeftModel.from_pretrained(resolve(tiny_backbone(tiny_folder, family)).load()[0], out).eval()
        for row in ids_of(tokenizer, 4):
            ids = torch.tensor([row])
            with torch.inference_mode():
                theirs = wrapped(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
                torch.testing.assert_close(hidden_states(network, ids), theirs[:, -len(row) :], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("family", ["bert", "llama", "bloom"])
def test_peft_loads_lora_and_gives_the_same_hidden_states(run, tmp_path, tiny_folder, family):
    made = run(tmp_path / "out", "lora={rank: 4, lr: .03}", family=family)
    backbone, tokenizer = resolve(tiny_backbone(tiny_folder, family)).load()
    scorer = Scorer.from_artifact(made, backbone, tokenizer)
    wrapped = PeftModel.from_pretrained(resolve(tiny_backbone(tiny_folder, family)).load()[0], tmp_path / "out").eval()
    plain = resolve(tiny_backbone(tiny_folder, family)).load()[0]
    for row in ids_of(tokenizer, 4):
        ids = torch.tensor([row])
        with torch.inference_mode():
            theirs = wrapped(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            torch.testing.assert_close(hidden_states(scorer.network, ids), theirs, rtol=1e-5, atol=2e-5)
            assert (plain(input_ids=ids).last_hidden_state - theirs).abs().max() > 1e-3


def test_backbone_stays_frozen_and_in_eval_mode(load_tiny, form):
    family, kind = form
    model, tokenizer = load_tiny(family)
    network = tiny_network(model, tokenizer, kind).train()
    assert network.training
    assert not any(module.training for module in network.backbone.modules())
    network(*pad(ids_of(tokenizer), 0)).sum().backward()
    assert {name for name, parameter in network.named_parameters() if parameter.grad is not None} == {
        "prompt",
        "head.linear.weight",
        "head.linear.bias",
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_float32_and_near_on_a_bfloat16_backbone(tiny_folder, family, kind):
    model, tokenizer = resolve(tiny_backbone(tiny_folder, family)).load()
    network = tiny_network(model, tokenizer, kind)
    batch = pad(ids_of(tokenizer), 0)
    with torch.inference_mode():
        expected = network(*batch)
        network.backbone = resolve(tiny_backbone(tiny_folder, family)).load(torch.bfloat16)[0]
        network.freeze_prompt()
        found = network(*batch)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.5


def test_attention_in_parts_gives_the_same_logits(tiny_folder, form):
    family, kind = form
    model, tokenizer = resolve(tiny_backbone(tiny_folder, family)).load()
    network, batch = tiny_network(model, tokenizer, kind), pad(ids_of(tokenizer), 0)
    with torch.inference_mode():
        fused = network(*batch)
        use_eager_attention(model, bfloat16=True)
        assert model.config._attn_implementation == "eager"
        assert_logits_close(network(*batch), fused)


@pytest.mark.parametrize(("family", "causal"), [("bert", False), ("mpnet", False), ("llama", True), ("bloom", True)])
def test_causal_backbones_are_told_from_others(load_tiny, family, causal):
    assert is_causal(load_tiny(family)[0]) is causal


@pytest.mark.parametrize("family", [*FAMILIES, "mpnet"])
def test_backbones_that_take_keys_and_values(load_tiny, family):
    assert accepts_keys_values(load_tiny(family)[0])
    other = DistilBertModel(DistilBertConfig(vocab_size=9, dim=8, hidden_dim=8, n_heads=2, n_layers=1))
    assert not accepts_keys_values(other)
    with pytest.raises(ConfigError, match="needs a backbone that takes keys and values, was: distilbert; use kind: in"):
        check_backbone(Recipe(), other)


def test_shape_counts_the_heads_of_keys_and_values(load_tiny):
    assert BackboneShape.of(load_tiny("llama")[0]) == BackboneShape(n_layers=2, n_heads=2, head_width=8, width=32)
    expected = BackboneShape(n_layers=2, n_heads=4, head_width=8, width=32)
    assert BackboneShape.of(load_tiny("bloom")[0]) == BackboneShape.of(load_tiny("bert")[0]) == expected


def test_splitting_a_deep_prompt_undoes_joining():
    generator = torch.Generator().manual_seed(0)
    layers = [tuple(torch.randn(1, 2, 5, 8, generator=generator) for _ in range(2)) for _ in range(3)]
    joined = join_deep_prompt(layers)
    assert joined.shape == (5, 3 * 2 * 2 * 8)
    for made, given in zip(split_deep_prompt(joined, BackboneShape(3, 2, 8, 16)), layers, strict=True):
        assert torch.equal(made[0], given[0])
        assert torch.equal(made[1], given[1])
