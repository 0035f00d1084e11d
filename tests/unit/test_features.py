"""What the head sees of a text: pooled positions of one layer or of several."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.load import load_scorer
from ptec_udf.engine.scorer import Scorer, pad
from ptec_udf.errors import ConfigError
from ptec_udf.model.backbone import resolve
from ptec_udf.model.network import PtecNetwork, pooled
from tests.tiny import tiny_companies, tiny_extract, tiny_network, tiny_text
from tests.tolerance import assert_logits_close
from tests.unit.trainings import CHANCE
from training.config import Recipe
from training.data.dataset import read_splits
from training.evaluate.metrics import mean_average_precision

TEXTS = [tiny_text(company) for company in tiny_companies(12, seed=5)] + ["a"]


def with_form(load_tiny, family, kind, **form):
    """A network that gives features."""
    model, tokenizer = load_tiny(family)
    prompt = tiny_network(model, tokenizer, kind).prompt.detach()
    return PtecNetwork(backbone=model, kind=kind, prompt=prompt, head=torch.nn.Identity(), **{"pooling": "mean"} | form)


@pytest.fixture
def ids(load_tiny):
    """Of texts of different lengths, by family."""
    return lambda family: [text.ids for text in Encoder(load_tiny(family)[1], 48).encode(TEXTS)]


def test_mean_max_puts_greatest_values_of_text_positions_beside_the_mean():
    hidden = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [9.0, 9.0]], [[2.0, 0.0], [0.0, 1.0], [1.0, 2.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    expected = torch.tensor([[2.0, -6.0, 3.0, -5.0], [1.0, 1.0, 2.0, 2.0]])
    torch.testing.assert_close(pooled(hidden, mask, "mean_max"), expected)


@pytest.mark.parametrize(
    ("family", "kind"), [("bert", "input"), ("bert", "deep"), ("llama", "input"), ("bloom", "deep")]
)
def test_layers_are_side_by_side_and_do_not_depend_on_the_batch(load_tiny, ids, family, kind):
    rows = ids(family)
    network = with_form(load_tiny, family, kind, layers=[-1, 0, 1], pooling="mean_max")
    with torch.inference_mode():
        found = network(*pad(rows, 7))
        alone = torch.cat([network(*pad([row], 0)) for row in rows])
        last = with_form(load_tiny, family, kind)(*pad(rows, 7))
    assert found.shape == (len(TEXTS), 2 * 3 * 32)
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=5e-5)
    torch.testing.assert_close(found[:, :32], last, rtol=1e-5, atol=5e-5)
    table = load_tiny(family)[0].get_input_embeddings()
    if family == "llama":  # nothing is added to its embeddings
        with torch.no_grad():
            expected = torch.stack([table(torch.tensor(row)).mean(dim=0) for row in rows])
        torch.testing.assert_close(found[:, 32:64], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["prompt.kind=deep", "lora={rank: 4}"], ids=["prompt", "lora"])
def test_artifact_scores_as_measured_and_can_be_started_from(run, tmp_path, form):
    few = tiny_extract(tmp_path / "few", n=60)
    settings = (form, "pooling=mean_max", "layers=[-1, 1]", "token_dropout=0", "head_dropout=0")
    made = run(tmp_path / "made", *settings, epochs=1, extract=few)
    assert made.head_weight.shape == (5, 2 * 2 * 32)
    assert (made.manifest.pooling, made.manifest.layers) == ("mean_max", [-1, 1])
    scorer = Scorer.from_artifact(made, *resolve(made.manifest.backbone.name).load())
    dev = read_splits(few, validation_share=0.15)["dev"]
    together = np.stack([result.logits for result in scorer.score(dev.texts)])
    assert_logits_close(np.stack([scorer.score([text])[0].logits for text in dev.texts]), together)
    measured = made.metrics["splits"]["dev"]["overall"]["map"]
    assert mean_average_precision(together, dev.targets) == pytest.approx(measured, abs=1e-6)
    start = f"start_from={tmp_path / 'made'}"
    assert run(tmp_path / "next", *settings, start, epochs=1, extract=few).metrics["started_from"] == made.model_id
    with pytest.raises(ConfigError, match=r"layers must be that of the model to start from, \[-1, 1\], was: None"):
        run(tmp_path / "other", form, "pooling=mean_max", start, extract=few)


@pytest.mark.parametrize("pooling", ["mean", "label_attention"])
@pytest.mark.parametrize(
    "form",
    ["prompt.upper_layers=1", "lora={rank: 4, layers: [q, v], upper_layers: 1, lr: 0.1}"],
    ids=["prompt", "lora"],
)
def test_with_upper_layers_features_are_of_these_and_of_what_comes_into_them(run, companies, tmp_path, form, pooling):
    made = run(tmp_path / "made", form, "layers=[-1, -2]", f"pooling={pooling}", family="mpnet")
    dev = read_splits(companies, validation_share=0.15)["dev"]
    logits = np.stack([text.logits for text in load_scorer(made).score(dev.texts)])
    measured = made.metrics["splits"]["dev"]["overall"]["map"]
    assert measured > CHANCE
    assert mean_average_precision(logits, dev.targets) == pytest.approx(measured, abs=1e-6)


@pytest.mark.parametrize("layers", ["[-1, -3]", "[-1, 1]", "[0]"])
def test_with_upper_layers_features_cannot_be_of_others(layers):
    rule = r"layers must be from -2 to -1 with prompt\.upper_layers: 1, since those below are not run, was: \["
    with pytest.raises(ValidationError, match=rule):
        Recipe.model_validate({"layers": json.loads(layers), "prompt": {"upper_layers": 1}})


@pytest.mark.parametrize("layers", ["[3]", "[-4]", "[-1, 2]", "[0, 0]"])
def test_layers_that_are_not_there_or_there_twice_are_refused(run, tmp_path, layers):
    with pytest.raises(
        ConfigError, match=r"layers must be different ones from 0 .* to 2 \(the last\).* -1 to -3, were"
    ):
        run(tmp_path / "out", f"layers={layers}")
