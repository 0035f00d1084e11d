"""Pooling in which each label looks at positions of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.torch_engine import pad
from ptec_udf.errors import ArtifactError, ConfigError
from ptec_udf.model.artifact import read_artifact
from ptec_udf.model.artifact_format import HEAD, MANIFEST, seal
from ptec_udf.model.backbone import resolve
from ptec_udf.model.heads import Head, LabelAttention
from ptec_udf.model.network import pooled
from tests.tiny import LABELS, tiny_companies, tiny_extract, tiny_network, tiny_text
from tests.tolerance import assert_logits_close
from training.flops import Layers

TEXTS = [tiny_text(company) for company in tiny_companies(12, seed=5)] + ["a"]
FORMS = {
    "prompt": ("prompt.kind=deep",),
    "lora": ("lora={rank: 4}",),
    "members": ("members=2", "combine=logits"),
    "layers": ("layers=[-1, 1]",),
}
EXACT = ("pooling=label_attention", "token_dropout=0", "head_dropout=0")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return tiny_extract(tmp_path_factory.mktemp("few"), n=60)


def attending(load_tiny, queries=None):
    network = tiny_network(*load_tiny("bert"), pooling="label_attention")
    drawn = torch.randn(len(LABELS), 32, generator=torch.Generator().manual_seed(1))
    network.attention = LabelAttention(drawn if queries is None else queries)
    return network


def test_each_label_weighs_the_positions_by_its_query():
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    pooling = LabelAttention(torch.tensor([[0.0, 0.0], [float(np.log(3)) / 4, 0.0]]), unit=4.0)
    features = pooling(hidden, mask)
    torch.testing.assert_close(features, torch.tensor([[[0.5, 1.0], [0.75, 0.5]]]))
    head = Head(2, 2)
    head.load_state_dict({"weight": torch.tensor([[2.0, 1.0], [4.0, 2.0]]), "bias": torch.tensor([0.5, -1.0])})
    torch.testing.assert_close(head(features), torch.tensor([[2.5, 3.0]]))


def test_queries_of_zeros_give_the_mean():
    hidden, mask = torch.randn(3, 7, 4), torch.tensor([[1] * 7, [1] * 3 + [0] * 4, [1] + [0] * 6])
    features = LabelAttention(torch.zeros(2, 4))(hidden, mask)
    for label in range(2):
        torch.testing.assert_close(features[:, label], pooled(hidden, mask, "mean"))


def test_logits_do_not_change_with_the_batch_or_its_padding(load_tiny):
    rows = [text.ids for text in Encoder(load_tiny("bert")[1], 48).encode(TEXTS)]
    with torch.inference_mode():
        network, mean = attending(load_tiny), attending(load_tiny, torch.zeros(len(LABELS), 32))
        found, of_mean = network(*pad(rows, 7)), mean(*pad(rows, 7))
        alone = torch.cat([network(*pad([row], 0)) for row in rows])
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=5e-5)
    assert (found - of_mean).abs().max() > 0.1


def test_it_computes_in_float32_whatever_the_backbone_does(load_tiny):
    network = attending(load_tiny)
    text, mask = pad([text.ids for text in Encoder(load_tiny("bert")[1], 48).encode(TEXTS)], 0)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = network._hidden_cached(text, mask).float()
        found = network.features(text, mask)
    assert found.dtype == torch.float32
    with torch.inference_mode():
        torch.testing.assert_close(found, network.attention(hidden, mask), rtol=1e-5, atol=1e-5)


def test_scoring_gives_the_logits_of_features_that_it_does_not_make(load_tiny, monkeypatch):
    network = attending(load_tiny)
    batch = pad([text.ids for text in Encoder(load_tiny("bert")[1], 48).encode(TEXTS)], 0)
    with torch.inference_mode():
        expected = network.head(network.features(*batch))
        network.head = network.head.fused()
        monkeypatch.setattr(LabelAttention, "forward", None)
        torch.testing.assert_close(network(*batch), expected, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("form", FORMS)
def test_artifact_scores_as_measured_and_can_be_started_from(run, tmp_path, few, form):
    made = run(tmp_path / "made", *FORMS[form], *EXACT, epochs=1, extract=few)
    assert made.manifest.pooling == "label_attention"
    assert made.head_queries.shape == made.head_weight.shape
    assert made.head_queries.abs().max() > 0
    scorer = Scorer.from_artifact(made, *resolve(made.manifest.backbone.name).load())
    together = np.stack([result.logits for result in scorer.score(TEXTS)])
    assert_logits_close(np.stack([scorer.score([text])[0].logits for text in TEXTS]), together)

    still = [f"optimiser.{rate}=1e-12" for rate in ("prompt_lr", "head_lr", "attention_lr")]
    still += [
        "optimiser.averaging=0",
        f"start_from={tmp_path / 'made'}",
        *(["lora.lr=1e-12"] if form == "lora" else []),
    ]
    later = run(tmp_path / "later", *FORMS[form], *EXACT, *still, epochs=1, extract=few)
    torch.testing.assert_close(later.head_queries, made.head_queries, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(later.head_weight, made.head_weight, rtol=1e-4, atol=1e-5)
    with pytest.raises(
        ConfigError, match="pooling must be that of the model to start from, label_attention, was: mean"
    ):
        run(tmp_path / "other", *FORMS[form], f"start_from={tmp_path / 'made'}", extract=few)


def test_attention_learns_at_its_own_rate(run, tmp_path, few):
    made = run(tmp_path / "out", "pooling=label_attention", "optimiser.attention_lr=1e-12", epochs=1, extract=few)
    assert made.head_queries.abs().max() < 1e-9
    assert made.head_weight.abs().max() > 1e-3


@pytest.mark.parametrize("kept", ["none", "fewer"])
def test_artifact_without_a_query_of_each_label_is_refused(run, tmp_path, few, kept):
    made = run(tmp_path / "out", "pooling=label_attention", epochs=1, extract=few)
    files = {name: data for name, data in made.files.items() if name != MANIFEST}
    head = load(files[HEAD])
    queries = head.pop("queries")
    files[HEAD] = save(head | ({} if kept == "none" else {"queries": queries[1:].clone()}))
    with pytest.raises(ArtifactError, match="must hold a query of each label with label_attention"):
        read_artifact(files | {MANIFEST: seal(made.manifest, files)[1]})


def test_auxiliary_labels_are_refused_beside_it(run, tmp_path):
    with pytest.raises(ConfigError, match="pooling must not be label_attention with auxiliary labels"):
        run(tmp_path / "out", "pooling=label_attention", "auxiliary={weight: 1}")


def test_its_operations_count_as_attention(load_tiny):
    whole, lengths = Layers.of_network(attending(load_tiny)), [5, 9]
    without = Layers.of_network(tiny_network(*load_tiny("bert")))
    more = 4 * len(LABELS) * 32 * sum(lengths)
    assert whole.forward(lengths) - without.forward(lengths) == more
    assert whole.training(lengths) - without.training(lengths) == 3 * more
