"""A prompt of virtual tokens that do not see the text: trained as tokens, kept as the keys and values they come to."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from peft import PeftModel

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.scorer import Scorer, pad
from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_artifact, tiny_backbone, tiny_companies, tiny_extract, tiny_network, tiny_text
from tests.tolerance import assert_logits_close

TEXTS = [tiny_text(company) for company in tiny_companies(12, seed=5)] + ["a"]
FAMILIES = ("bert", "llama")


@pytest.mark.parametrize("family", FAMILIES)
def test_artifact_scores_as_the_network_and_as_peft(tiny_folder, load_tiny, family):
    network = tiny_network(*load_tiny(family), "prefix")
    assert network.prompt.shape == (4, 32)
    folder = tiny_artifact(tiny_folder, family, "prefix")
    made = load_artifact(folder)
    assert (made.manifest.prompt.kind, made.manifest.prompt.attention) == ("deep", "prefix")
    scorer = Scorer.from_artifact(made, *resolve(made.manifest.backbone.name).load())
    ids = [text.ids for text in Encoder(load_tiny(family)[1], 32).encode(TEXTS)]
    with torch.inference_mode():
        expected = torch.cat([network(*pad([row], 0)) for row in ids]).numpy()
    assert_logits_close(np.stack([result.logits for result in scorer.score(TEXTS)]), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT still passes the cache under its old name
        wrapped = PeftModel.from_pretrained(resolve(tiny_backbone(tiny_folder, family)).load()[0], folder).eval()
        row = torch.tensor(ids[:1])
        with torch.inference_mode():
            theirs = wrapped(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state
            ours = network._hidden_cached(row, torch.ones_like(row))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


def test_in_an_encoder_it_differs_from_a_prompt_that_sees_the_text(load_tiny):
    """In a decoder both are the same."""
    for family in FAMILIES:
        model, tokenizer = load_tiny(family)
        batch = pad([text.ids for text in Encoder(tokenizer, 32).encode(TEXTS)], 0)
        with torch.inference_mode():
            blind, seeing = (tiny_network(model, tokenizer, kind).features(*batch) for kind in ("prefix", "input"))
        assert ((blind - seeing).abs().max() > 1e-2) == (family == "bert")


def test_training_leaves_a_deep_prompt_that_another_can_start_from(run, tmp_path):
    few = tiny_extract(tmp_path / "few", n=60)
    made = run(tmp_path / "made", "prompt.kind=prefix", "stopping.refit=true", epochs=1, extract=few)
    assert made.prompt.shape == (4, 2 * 2 * 32)
    start = f"start_from={tmp_path / 'made'}"
    with pytest.raises(ConfigError, match=r"prompt\.kind must be that of the model to start from, deep, was: prefix"):
        run(tmp_path / "other", "prompt.kind=prefix", start, extract=few)
    later = run(tmp_path / "later", "prompt.kind=deep", start, epochs=1, extract=few)
    assert later.metrics["started_from"] == made.model_id


def test_gradient_reaches_the_tokens(load_tiny):
    network = tiny_network(*load_tiny("bert"), "prefix")
    network(*pad([[5, 6, 7]], 0)).square().sum().backward()
    assert (network.prompt.grad.abs().sum(dim=1) > 0).all()
