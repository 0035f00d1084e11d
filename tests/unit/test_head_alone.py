"""A training without a prompt: what a head makes of the frozen backbone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact_format import ADAPTER, HEAD
from tests.tiny import tiny_backbone
from tests.unit.test_methods import task_of
from training.data.dataset import read_splits
from training.evaluate.metrics import mean_average_precision
from training.methods.head import Head

EXACT = ("prompt.kind=none", "token_dropout=0")


@pytest.mark.parametrize("pooling", ["mean", "label_attention"])
def test_artifact_holds_a_head_alone_and_scores_as_measured(run, companies, tmp_path, pooling):
    made = run(tmp_path / "made", *EXACT, f"pooling={pooling}", epochs=2)
    assert (made.manifest.prompt, made.manifest.lora, dict(made.adapter)) == (None, None, {})
    assert HEAD in made.files
    assert ADAPTER not in made.files
    dev = read_splits(companies, validation_share=0.15)["dev"]
    logits = np.stack([text.logits for text in load_scorer(made).score(dev.texts)])
    measured = made.metrics["splits"]["dev"]["overall"]["map"]
    assert mean_average_precision(logits, dev.targets) == pytest.approx(measured, abs=1e-6)
    later = run(tmp_path / "later", *EXACT, f"pooling={pooling}", f"start_from={tmp_path / 'made'}", epochs=1)
    assert later.metrics["started_from"] == made.model_id
    with pytest.raises(ConfigError, match=r"prompt\.kind must be that of the model to start from, None, was: deep"):
        run(tmp_path / "other", f"pooling={pooling}", f"start_from={tmp_path / 'made'}")


def test_backbone_that_is_run_once_gives_the_head_that_it_gives_in_each_epoch(run, tmp_path):
    settings = (*EXACT, "pooling=label_attention", "head_dropout=0")
    each, once = (
        run(tmp_path / name, *settings, f"prompt.upper_layers={n}", family="mpnet", epochs=2)
        for name, n in (("each", "null"), ("once", 0))
    )
    torch.testing.assert_close(once.head_weight, each.head_weight, rtol=1e-2, atol=1e-3)  # kept in 16 bits
    torch.testing.assert_close(once.head_queries, each.head_queries, rtol=1e-2, atol=1e-2)
    flop_of_each, flop_of_once = (made.metrics["learning"]["flop"] for made in (each, once))
    assert flop_of_once < 0.6 * flop_of_each


@pytest.mark.parametrize(("kind", "n_layers"), [("none", 1), ("deep", 0), ("input", 1), ("prefix", 0)])
def test_layers_that_such_a_prompt_cannot_have_are_refused(run, tmp_path, kind, n_layers):
    fault = rf"upper_layers must be null, .* or 0 for kind: none, was: {n_layers} for {kind}"
    with pytest.raises(ConfigError, match=fault):
        run(tmp_path / "out", f"prompt.kind={kind}", f"prompt.upper_layers={n_layers}", family="mpnet")


def test_head_that_has_learned_validation_too_is_not_started_from(run, companies, tmp_path, tiny_folder):
    task = task_of(companies, tmp_path / "benchmark")
    Head(backbone=tiny_backbone(tiny_folder, "bert"), max_tokens=32, C=1.0).learn(task)
    start = f"start_from={tmp_path / 'benchmark' / 'artifact'}"
    with pytest.raises(ConfigError, match="start_from must hold a model of ptec train, was one whose head has learned"):
        run(tmp_path / "out", *EXACT, start, "stopping.validation_share=0.2")


def test_heads_cannot_be_averaged_at_scoring(run, tmp_path):
    with pytest.raises(ConfigError, match="the mean of heads is a head; was: logits for 2 members"):
        run(tmp_path / "out", *EXACT, "members=2", "combine=logits")
