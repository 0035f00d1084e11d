"""Arrangements of texts in the driver's process: equal scores pass, a fault that the batch brings about is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicCache

from ptec_udf.config import EngineConfig
from ptec_udf.engine.result import ERROR, OK, ScoredText
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model import network
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.manifest import Label
from ptec_udf.preflight.arrangements import arrangements, score_in_driver
from ptec_udf.preflight.comparison import compare
from ptec_udf.preflight.plain import score_alone
from tests.faulty import pool_with_padding
from tests.tiny import LABELS, tiny_artifact, tiny_companies, tiny_text
from tests.variants import variant

TEXTS = [*(tiny_text(company) for company in tiny_companies(40, seed=13)), "solar " * 45]
GENTLE = [Label(name=name, threshold=0.5, scale=0.25, offset=0.0, training_positives=20) for name in LABELS]
MODELS = [("bert", "input"), ("bert", "deep"), ("llama", "input"), ("bloom", "deep"), ("mpnet", "deep")]


@pytest.fixture
def artifact(tiny_folder):
    return load_artifact(tiny_artifact(tiny_folder, "bert", "deep"))


@pytest.fixture
def gentle(tiny_folder, tmp_path):
    """Makes models whose probabilities move less with their logits; those of random weights are coarse in bfloat16."""

    def gentle(family, kind):
        return load_artifact(variant(tiny_artifact(tiny_folder, family, kind), tmp_path / "gentle", labels=GENTLE))

    return gentle


def in_driver(artifact, dtype):
    """What the driver's arrangements come to, by name."""
    alone = score_alone(artifact, TEXTS)
    scorer = load_scorer(artifact, dtype=getattr(torch, dtype))
    lengths = [text.n_tokens for text in alone]
    tried = [one for one in arrangements(EngineConfig(), lengths, dtype) if one.partitions is None]
    found = {one.name: score_in_driver(scorer, TEXTS, one, seed=5) for one in tried}
    return {name: compare(name, dtype, alone, texts, artifact.manifest) for name, texts in found.items()}


@pytest.mark.parametrize(("family", "kind"), MODELS)
def test_real_engine_passes_in_float32(tiny_folder, family, kind):
    found = in_driver(load_artifact(tiny_artifact(tiny_folder, family, kind)), "float32")
    assert len(found) == 8
    assert [name for name, one in found.items() if not one.passed] == []
    assert {one.rows for one in found.values()} == {len(TEXTS)}


@pytest.mark.parametrize(("family", "kind"), MODELS)
def test_real_engine_passes_in_bfloat16(gentle, family, kind):
    found = in_driver(gentle(family, kind), "bfloat16")
    assert len(found) == 4
    assert [name for name, one in found.items() if not one.passed] == []
    assert min(one.worst_logit for one in found.values()) > 1e-3  # it was bfloat16


def test_pooling_of_padding_is_found_wherever_there_is_padding(gentle, monkeypatch):
    artifact = gentle("bert", "deep")
    monkeypatch.setattr(network, "pool", pool_with_padding)
    found = in_driver(artifact, "float32")
    passed = {name for name, one in found.items() if one.passed}
    assert passed == {"driver, each text a batch", "driver, windows of 1"}
    in_one_batch = found["driver, one batch"]
    assert in_one_batch.worst_logit > 0.1
    assert in_one_batch.changed_decisions > 0
    rounded = in_driver(artifact, "bfloat16")
    assert {name for name, one in rounded.items() if one.passed} == {"driver, each text a batch"}


def test_window_that_forgets_its_order_is_found(artifact, monkeypatch):
    scorer = load_scorer(artifact)
    alone = score_alone(artifact, TEXTS)
    score = scorer.score
    monkeypatch.setattr(scorer, "score", lambda texts: score(texts)[::-1])
    passed = {
        one.name: compare(
            one.name, "float32", alone, score_in_driver(scorer, TEXTS, one, seed=5), artifact.manifest
        ).passed
        for one in arrangements(EngineConfig(), [text.n_tokens for text in alone], "float32")
        if one.partitions is None
    }
    assert [name for name, one in passed.items() if one] == ["driver, windows of 1"]


def test_batches_are_those_that_the_names_say(artifact, monkeypatch):
    """Without that, all arrangements could be one and the same."""
    scorer, shapes = load_scorer(artifact), []
    forward = scorer.engine.network.forward

    def watched(ids, mask):
        shapes.append(tuple(ids.shape))
        return forward(ids, mask)

    monkeypatch.setattr(scorer.engine.network, "forward", watched)
    batches = {}
    for one in arrangements(EngineConfig(batch_tokens=300), [32] * len(TEXTS), "float32"):
        if one.partitions is None:
            shapes.clear()
            score_in_driver(scorer, TEXTS, one, seed=5)
            batches[one.name] = [rows for rows, _ in shapes]
    every = len(TEXTS)
    assert batches["driver, each text a batch"] == batches["driver, windows of 1"] == [1] * every
    assert batches["driver, one batch"] == batches["driver, shuffled, one batch"] == [every]
    assert batches["driver, windows of 7"] == batches["driver, shuffled, windows of 7"] == [7] * 5 + [6]
    assert 1 < len(batches["driver, batches of 224 positions"]) < every
    assert 1 < len(batches["driver, as configured"]) < every


def test_shuffled_texts_come_in_another_order_that_the_seed_decides(artifact, monkeypatch):
    scorer, given = load_scorer(artifact), []
    monkeypatch.setattr(scorer, "score", lambda texts: given.extend(texts) or [ScoredText() for _ in texts])

    def order_of(one, seed):
        given.clear()
        score_in_driver(scorer, TEXTS, one, seed)
        return list(given)

    tried = [one for one in arrangements(EngineConfig(), [9] * len(TEXTS), "float32") if one.partitions is None]
    for one in tried:
        assert (order_of(one, 1) == TEXTS) == (not one.shuffled)
        assert sorted(order_of(one, 1)) == sorted(TEXTS)
        assert order_of(one, 1) == order_of(one, 1)
        assert (order_of(one, 1) == order_of(one, 2)) == (not one.shuffled)
    assert {one.shuffled for one in tried} == {False, True}


def test_prompt_s_cache_that_grows_from_batch_to_batch_is_found(tiny_folder, monkeypatch):
    artifact = load_artifact(tiny_artifact(tiny_folder, "llama", "deep"))
    kept = DynamicCache()

    def growing(layers):
        for at, (keys, values) in enumerate(layers if not kept.layers else ()):
            kept.update(keys, values, at)
        return kept

    monkeypatch.setattr(network, "prefix_cache", growing)
    assert [name for name, one in in_driver(artifact, "float32").items() if one.passed] == []


def scored(*logits, status=OK):
    return [ScoredText(status, logits=np.array(row, np.float32)) for row in logits]


def compared(artifact, dtype, alone, found):
    return compare("x", dtype, alone, found, artifact.manifest)


def test_tolerance_of_float32_is_a_constant_and_a_share(artifact):
    alone = scored([0.0] * 5, [100.0] * 5)
    assert compared(artifact, "float32", alone, scored([4e-5] * 5, [100.001] * 5)).passed
    assert not compared(artifact, "float32", alone, scored([0, 0, 0, 0, 6e-5], [100.0] * 5)).passed
    assert not compared(artifact, "float32", alone, scored([0.0] * 5, [100, 100, 100.0012, 100, 100])).passed


def test_tolerance_of_bfloat16_is_of_probabilities(artifact):
    many = np.zeros((1000, len(LABELS)))
    one_off, ten_off, far_off = many.copy(), many.copy(), many.copy()
    one_off[3, 1], ten_off[:10, 1], far_off[3, 1] = 0.15, 0.15, 0.25  # 0.037 and 0.062 of probability
    found = [compared(artifact, "bfloat16", scored(*many), scored(*rows)) for rows in (one_off, ten_off, far_off)]
    assert [one.passed for one in found] == [True, False, False]
    assert [round(one.worst_probability, 3) for one in found] == [0.037, 0.037, 0.062]
    assert [one.p999_probability > 0.01 for one in found] == [False, True, False]


def test_decisions_are_counted_as_the_table_has_them(artifact):
    label = artifact.manifest.labels[0]
    labels = [label.model_copy(update={"scale": 2.0, "offset": -1.0, "threshold": 0.5})] * 5
    manifest = artifact.manifest.model_copy(update={"labels": labels})
    alone, found = scored([0.5, 0.4, 0.6, 0.4, 0.4]), scored([0.5, 0.6, 0.6, 0.4, 0.51])
    assert compare("x", "float32", alone, found, manifest).changed_decisions == 2
    curve = [(-10.0, -12.0), (0.0, -0.5), (10.0, 10.0)]  # 0 goes below the threshold
    bent = manifest.model_copy(update={"curve": curve})
    assert compare("x", "float32", scored([0.5] * 5), scored([1.0] * 5), bent).changed_decisions == 5
    assert compare("x", "float32", scored([0.5] * 5), scored([0.6] * 5), bent).changed_decisions == 0


def test_other_status_is_a_fault_by_itself(artifact):
    alone = scored([1.0] * 5, [2.0] * 5)
    cut = [replace(text, status="truncated") for text in alone]
    found = compared(artifact, "float32", alone, [alone[0], cut[1]])
    assert (found.changed_statuses, found.worst_logit, found.passed) == (1, 0, False)
    lost = compared(artifact, "bfloat16", alone, [alone[0], ScoredText(ERROR)])
    assert (lost.changed_statuses, lost.passed) == (1, False)
    assert compared(artifact, "float32", [ScoredText(ERROR)], [ScoredText(ERROR)]).passed
