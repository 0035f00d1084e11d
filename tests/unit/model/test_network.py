"""A text's logits depend on the text alone, and the forward pass is PEFT's."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import DistilBertConfig, DistilBertModel

from ptec_training.export import export
from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.torch_engine import load_scorer, pad
from ptec_udf.errors import BackboneError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.model.network import Head, LabelAttention, accepts_keys_values
from ptec_udf.model.prefix import BackboneShape
from tests.tiny import (
    FAMILIES,
    KINDS,
    LABELS,
    tiny_artifact,
    tiny_backbone,
    tiny_companies,
    tiny_manifest,
    tiny_network,
    tiny_text,
)
from tests.tolerance import assert_logits_close
from tests.variants import with_lora

FORMS = [(family, kind) for family in (*FAMILIES, "mpnet") for kind in KINDS]
TEXTS = [tiny_text(company) for company in tiny_companies(12, seed=5)] + ["a"]


@pytest.fixture(params=FORMS, ids="-".join)
def form(request):
    return request.param


@pytest.fixture
def make(load_tiny):
    """Makes a tiny network and a batch of texts."""

    def make(family, kind, **options):
        model, tokenizer = load_tiny(family)
        ids = [text.ids for text in Encoder(tokenizer, 48).encode(TEXTS)]
        return tiny_network(model, tokenizer, kind, **options), ids

    return make


def with_attention(network, seed=1):
    queries = torch.randn(len(LABELS), 32, generator=torch.Generator().manual_seed(seed))
    network.attention = LabelAttention(queries)
    return network


class TestLogits:
    @pytest.mark.parametrize("pooling", ["mean", "last", "label_attention"])
    @pytest.mark.parametrize("is_frozen", [False, True], ids=["training", "scoring"])
    def test_do_not_depend_on_batch_or_padding(self, make, form, pooling, is_frozen):
        network, ids = make(*form, pooling=pooling)
        if pooling == "label_attention":
            with_attention(network)
        if is_frozen:
            network.freeze_prompt()
        with torch.inference_mode():
            alone = torch.cat([network(*pad([row])) for row in ids])
            padded, mask = pad(ids, 7)
            more = torch.full((len(ids), 9), 7)
            longer = network(torch.cat([padded, more], 1), torch.cat([mask, more * 0], 1))
            assert_logits_close(network(*pad(ids)), alone)
        assert alone.std(dim=0).min() > 0.01
        assert_logits_close(longer, alone)

    @pytest.mark.parametrize("kind", KINDS)
    def test_are_float32_on_a_bfloat16_backbone(self, make, tiny_folder, kind):
        network, ids = make("bert", kind)
        with torch.inference_mode():
            expected = network(*pad(ids))
            network.backbone = resolve(tiny_backbone(tiny_folder, "bert")).load(torch.bfloat16)[0]
            network.freeze_prompt()
            found = network(*pad(ids))
        assert found.dtype == torch.float32
        assert 0 < (found - expected).abs().max() < 0.5


class TestCachedPrompt:
    @pytest.mark.parametrize("family", ["llama", "bloom"])
    def test_equals_one_pass_over_prompt_and_text(self, make, family):
        network, ids = make(family, "input")
        features, gradients = [], []
        for caches in (True, False):
            network.caches_prompt = caches
            network.zero_grad()
            features.append(network.features(*pad(ids)))
            network(*pad(ids)).square().sum().backward()
            gradients.append(network.prompt.grad.clone())
        assert gradients[0].abs().max() > 0
        torch.testing.assert_close(*features, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


class TestPeft:
    """PEFT loads the artifact and computes the same hidden states."""

    def check(self, network, wrapped, tokenizer):
        for text in Encoder(tokenizer, 48).encode(TEXTS[:4]):
            ids = torch.tensor([text.ids])
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PEFT passes the cache under its old name
                theirs = wrapped(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
                ours = network.hidden(ids, torch.ones_like(ids))
            torch.testing.assert_close(ours, theirs[:, -len(text.ids) :], rtol=1e-5, atol=2e-5)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_prompt(self, tiny_folder, family, kind):
        out = tiny_artifact(tiny_folder, family, kind)
        backbone = resolve(tiny_backbone(tiny_folder, family))
        scorer = load_scorer(load_artifact(out), backbone=(loaded := backbone.load()))
        self.check(scorer.engine.networks[0], PeftModel.from_pretrained(backbone.load()[0], out).eval(), loaded[1])

    def test_lora(self, tiny_folder, tmp_path):
        made = load_artifact(with_lora(tiny_artifact(tiny_folder), tmp_path / "lora"))
        backbone = resolve(tiny_backbone(tiny_folder, "bert"))
        model, tokenizer = backbone.load()
        (network,) = load_scorer(made, backbone=(model, tokenizer)).engine.networks
        layer = "encoder.layer.0.attention.self.query"
        weights = [loaded.get_submodule(layer).weight for loaded in (network.backbone, backbone.load()[0])]
        name = f"base_model.model.{layer}"
        a, b = (torch.from_numpy(made.adapter[f"{name}.lora_{end}.weight"]) for end in "AB")
        torch.testing.assert_close(weights[0] - weights[1], b @ a, rtol=1e-4, atol=1e-5)


class TestLabelAttention:
    def test_weighs_positions_by_each_label_s_query(self):
        hidden, mask = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]]), torch.tensor([[1, 1, 0]])
        attention = LabelAttention(torch.tensor([[0.0, 0.0], [float(np.log(3)) / 4, 0.0]]), unit=4.0)
        features = attention(hidden, mask)
        torch.testing.assert_close(features, torch.tensor([[[0.5, 1.0], [0.75, 0.5]]]))
        head = Head(2, 2)
        head.load_state_dict({"weight": torch.tensor([[2.0, 1.0], [4.0, 2.0]]), "bias": torch.tensor([0.5, -1.0])})
        torch.testing.assert_close(head(features), torch.tensor([[2.5, 3.0]]))


class TestEnsemble:
    @pytest.mark.parametrize(("family", "kind"), [("bert", "deep"), ("bert", "input"), ("llama", "input")])
    def test_scores_are_the_mean_of_the_members(self, load_tiny, tiny_folder, tmp_path, family, kind):
        networks = [tiny_network(*load_tiny(family), kind, seed=seed) for seed in (1, 2)]
        manifest = tiny_manifest(tiny_backbone(tiny_folder, family), networks[0], members=2)
        export(networks, manifest, {}, tmp_path / "made")
        scorer = load_scorer(load_artifact(tmp_path / "made"))
        batch = pad([text.ids for text in scorer.encoder.encode(TEXTS)])
        with torch.inference_mode():
            alone = [network(*batch).numpy() for network in networks]
        assert np.abs(alone[0] - alone[1]).max() > 0.1
        found = np.stack([result.logits for result in scorer.score(TEXTS)])
        assert_logits_close(found, np.mean(alone, axis=0))
        assert_logits_close(np.stack([scorer.score([text])[0].logits for text in TEXTS]), found)


class TestBackbone:
    def test_stays_frozen_and_in_eval_mode(self, make, form):
        network, ids = make(*form)
        network.train()
        assert network.training
        assert not any(module.training for module in network.backbone.modules())
        network(*pad(ids)).sum().backward()
        with_gradient = {name for name, value in network.named_parameters() if value.grad is not None}
        assert with_gradient == {"prompt", "head.linear.weight", "head.linear.bias"}

    def test_of_an_unknown_architecture_is_refused(self, load_tiny):
        other = DistilBertModel(DistilBertConfig(vocab_size=9, dim=8, hidden_dim=8, n_heads=2, n_layers=1))
        assert accepts_keys_values(load_tiny("mpnet")[0])
        assert not accepts_keys_values(other)
        other = SimpleNamespace(config=SimpleNamespace(model_type="mamba", hidden_size=8))
        with pytest.raises(BackboneError, match="architecture 'mamba' is not supported"):
            BackboneShape.of(other)
