"""The plain pass, one text at a time as the library runs it, gives what the engine gives in batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptec_udf.engine.result import EMPTY, ERROR, OK, TRUNCATED
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model import network
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.ensemble import MeanNetwork
from ptec_udf.preflight import plain
from ptec_udf.preflight.plain import PlainModel, score_alone
from tests.faulty import pool_with_padding
from tests.tiny import (
    FAMILIES,
    KINDS,
    tiny_artifact,
    tiny_backbone,
    tiny_companies,
    tiny_manifest,
    tiny_network,
    tiny_text,
)
from tests.tolerance import assert_logits_close
from tests.unit.test_methods import task_of
from training.export import export
from training.methods.tfidf import Tfidf

TEXTS = [*(tiny_text(company) for company in tiny_companies(25, seed=12)), "solar " * 45]


def logits_of(results):
    return np.stack([result.logits for result in results])


def assert_equal_in_batches(artifact):
    alone = score_alone(artifact, TEXTS)
    together = load_scorer(artifact, batch_tokens=100_000).score(TEXTS)
    assert_logits_close(logits_of(together), logits_of(alone))
    for one, other in zip(alone, together, strict=True):
        assert (one.status, one.n_tokens, one.n_truncated) == (other.status, other.n_tokens, other.n_truncated)
    return alone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", [*FAMILIES, "mpnet"])
def test_it_gives_the_scores_of_batches(tiny_folder, family, kind):
    alone = assert_equal_in_batches(load_artifact(tiny_artifact(tiny_folder, family, kind)))
    assert {result.status for result in alone} == {OK, TRUNCATED}
    assert np.ptp(logits_of(alone), axis=0).min() > 0.1  # texts differ, so that equal scores say something


@pytest.mark.parametrize("pooling", ["last"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_every_pooling_is_that_of_the_engine(tiny_folder, load_tiny, tmp_path, family, pooling):
    made = tiny_network(*load_tiny(family), "deep", pooling=pooling)
    export(made, tiny_manifest(tiny_backbone(tiny_folder, family), made), {}, tmp_path / "made")
    assert_equal_in_batches(load_artifact(tmp_path / "made"))


@pytest.mark.parametrize(("family", "kind"), [("bert", "input"), ("llama", "deep")])
def test_members_are_averaged(tiny_folder, load_tiny, tmp_path, family, kind):
    networks = [tiny_network(*load_tiny(family), kind, seed=seed) for seed in (1, 2)]
    manifest = tiny_manifest(tiny_backbone(tiny_folder, family), networks[0], members=2)
    export(MeanNetwork(networks).eval(), manifest, {}, tmp_path / "made")
    assert_equal_in_batches(load_artifact(tmp_path / "made"))


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", ["prompt.kind=none"]),
        ("bert", ["lora={rank: 2}"]),
        ("llama", ["pooling=label_attention"]),
        ("mpnet", ["prompt.n_upper_layers=1"]),
        ("bert", ["tfidf={C: [1, 10], blend_weights: [0.5, 1.0]}"]),
    ],
    ids=["head alone", "LoRA", "label attention", "upper layers", "terms beside"],
)
def test_what_training_makes_is_run_as_the_engine_runs_it(run, tmp_path, family, settings):
    made = run(tmp_path / "made", *settings, family=family, epochs=1)
    if any(setting.startswith("tfidf") for setting in settings):
        assert "tfidf.weight" in made.head
    assert_equal_in_batches(made)


def test_terms_without_a_backbone(companies, tmp_path):
    Tfidf(C=10).learn(task_of(companies, tmp_path))
    assert_equal_in_batches(load_artifact(tmp_path / "artifact"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_uses_neither_the_engine_s_pooling_nor_its_prompt_cache(tiny_folder, monkeypatch, kind):
    artifact = load_artifact(tiny_artifact(tiny_folder, "llama", kind))
    expected = logits_of(score_alone(artifact, TEXTS))
    monkeypatch.setattr(network, "pool", pool_with_padding)
    monkeypatch.setattr(network, "prefix_cache", lambda _: pytest.fail("the engine's cache was made"))
    np.testing.assert_array_equal(logits_of(score_alone(artifact, TEXTS)), expected)


def test_texts_before_a_text_leave_it_alone(tiny_folder):
    model = PlainModel(load_artifact(tiny_artifact(tiny_folder, "llama", "deep")))
    first = model.score(TEXTS[3]).logits
    for text in TEXTS:
        model.score(text)
    np.testing.assert_array_equal(model.score(TEXTS[3]).logits, first)


@pytest.mark.parametrize("text", ["", " \t", "\u200b"])
def test_text_without_content_is_empty(tiny_folder, text):
    artifact = load_artifact(tiny_artifact(tiny_folder, "bert", "deep"))
    (alone,), (together,) = score_alone(artifact, [text]), load_scorer(artifact).score([text])
    assert (alone.status, alone.logits) == (together.status, together.logits) == (EMPTY, None)


@pytest.mark.parametrize(
    ("faulty", "said"),
    [(RuntimeError("secret"), "scoring this text alone raised RuntimeError"), (torch.nan, "logits are not finite")],
)
def test_text_that_fails_is_an_error_that_does_not_quote_it(tiny_folder, monkeypatch, faulty, said):
    artifact = load_artifact(tiny_artifact(tiny_folder, "bert", "deep"))

    def fail(self, member, ids):
        if isinstance(faulty, Exception):
            raise faulty
        return torch.full((ids.shape[1], 32), faulty)

    monkeypatch.setattr(plain.PlainModel, "_hidden", fail)
    (result,) = score_alone(artifact, [TEXTS[0]])
    assert (result.status, result.error, result.logits) == (ERROR, said, None)
