"""A worker process loads each model once, models of one backbone share it, and the newest ones are kept."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ptec_udf.engine import host, worker
from ptec_udf.engine.worker import EngineSettings, load_count, scorer_beside, scorer_for
from ptec_udf.errors import ArtifactError, BackboneError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import HEAD, MANIFEST, seal
from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_artifact
from tests.variants import with_lora

SETTINGS = EngineSettings(dtype="float32", batch_tokens=512, window_rows=10, window_bytes=1000, threads=1)
BFLOAT16 = EngineSettings(dtype="bfloat16", batch_tokens=512, window_rows=10, window_bytes=1000, threads=1)


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(worker, "_scorers", {})
    monkeypatch.setattr(worker, "_failed", {})
    host._check_once.cache_clear()


@pytest.fixture
def models(tiny_folder):
    return [load_artifact(tiny_artifact(tiny_folder, seed=seed)) for seed in range(3)]


def loads_of(model, settings=SETTINGS):
    """Ask for a model's scorer and say how many loads that took."""
    before = load_count()
    scorer_for(model.model_id, model.scoring_files, settings)
    return load_count() - before


def test_model_is_loaded_once(models):
    assert [loads_of(models[0]) for _ in range(3)] == [1, 0, 0]
    first = scorer_for(models[0].model_id, models[0].scoring_files, SETTINGS)
    assert scorer_for(models[0].model_id, models[0].scoring_files, SETTINGS) is first


def backbone_of(model, settings=SETTINGS):
    return scorer_for(model.model_id, model.scoring_files, settings).network.members[0].backbone


def test_models_of_one_backbone_share_it_and_each_keeps_its_scores(models, tiny_folder, tmp_path):
    lora = load_artifact(with_lora(tiny_artifact(tiny_folder), tmp_path / "lora"))
    text = ["Name: a. solar wind"]
    before = scorer_for(models[0].model_id, models[0].scoring_files, SETTINGS).score(text)[0].logits
    first, *others = map(backbone_of, models)
    assert [other is first for other in others] == [True, True]
    own = backbone_of(lora)
    assert own is not first
    assert backbone_of(lora, replace(SETTINGS, batch_tokens=64)) is not own  # LoRA would be added twice
    after = scorer_for(models[0].model_id, models[0].scoring_files, SETTINGS).score(text)[0].logits
    assert (before == after).all()


def test_two_backbones_are_kept_and_the_oldest_gives_way_with_its_models(models, tiny_folder):
    of_others = [load_artifact(tiny_artifact(tiny_folder, family)) for family in ("llama", "bloom")]
    assert [loads_of(model) for model in (*models, of_others[0], *models)] == [1, 1, 1, 1, 0, 0, 0]
    assert loads_of(of_others[1]) == 1
    assert len(worker._scorers) == 2
    assert loads_of(of_others[0]) == 0
    assert loads_of(models[0]) == 1


def test_all_parts_of_a_backbone_that_gives_way_are_given_back(tiny_folder, tmp_path):
    layers = [f"encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1) for part in ("query", "key", "value")]
    made = tiny_artifact(tiny_folder)
    models = [load_artifact(with_lora(made, tmp_path / layer, layer)) for layer in layers]
    backbones, alive = [], []

    def count():
        alive.append(sum(any(part() is not None for part in parts) for parts in backbones))

    gc.disable()
    try:
        for model in models:
            backbones.append([weakref.ref(part) for part in backbone_of(model, BFLOAT16).modules()])
            count()
        worker.keep_only(models[-1].model_id)
        count()
    finally:
        gc.enable()
    assert alive == [1, *[worker.MAX_BACKBONES] * (len(models) - 1), 1]


def test_only_one_model_is_kept_where_others_are_too_much(models):
    for model in models:
        loads_of(model)
    worker.keep_only(models[1].model_id)
    assert [loads_of(models[at]) for at in (1, 0, 2)] == [0, 1, 1]


def test_only_so_many_models_are_kept(models, monkeypatch):
    monkeypatch.setattr(worker, "MAX_MODELS", 2)
    assert [loads_of(models[at]) for at in (0, 1, 2, 2, 1, 0)] == [1, 1, 1, 0, 0, 1]
    assert len(worker._scorers) == 2


def test_threads_are_those_of_the_task_that_asks(models):
    before = torch.get_num_threads()
    try:
        for threads in (2, 1, 2):
            loads_of(models[0], replace(SETTINGS, threads=threads))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_model_that_others_can_do_without_is_tried_once_in_each_task(models, monkeypatch):
    made = models[0]
    assert scorer_beside(made.model_id, made.scoring_files, SETTINGS) is scorer_for(
        made.model_id, made.scoring_files, SETTINGS
    )
    tried, load = [], worker._load
    monkeypatch.setattr(worker, "_load", lambda *args: tried.append(1) or load(*args))
    broken = models[1].scoring_files | {HEAD: b""}
    assert [scorer_beside(models[1].model_id, broken, SETTINGS) for _ in range(3)] == [None] * 3
    assert len(tried) == 1
    monkeypatch.setattr(worker, "TaskContext", SimpleNamespace(get=lambda: SimpleNamespace(taskAttemptId=lambda: 7)))
    monkeypatch.setattr(worker, "task_device", lambda: torch.device("cpu"))
    assert [scorer_beside(models[1].model_id, broken, SETTINGS) for _ in range(3)] == [None] * 3
    assert len(tried) == 2
    assert loads_of(models[1]) == 1  # a run of its own tries again


def test_other_settings_are_another_model(models):
    assert [loads_of(models[0]), loads_of(models[0], BFLOAT16), loads_of(models[0])] == [1, 1, 0]
    scorer = scorer_for(models[0].model_id, models[0].scoring_files, BFLOAT16)
    assert str(scorer.network.backbone.dtype) == "torch.bfloat16"
    assert scorer.score(["Name: a. solar wind"])[0].status == "ok"


def test_loaded_model_has_its_own_prompt_and_settings(models):
    scorers = [scorer_for(model.model_id, model.scoring_files, SETTINGS) for model in models]
    logits = [scorer.score(["Name: a. solar wind"])[0].logits for scorer in scorers]
    assert abs(logits[0] - logits[1]).max() > 0.01
    assert scorers[0].batch_tokens == 512
    assert scorers[0].encoder.max_tokens == 32


def test_backbone_is_hashed_once(models, monkeypatch):
    hashed = []
    content_hash = resolve(models[0].manifest.backbone.name).content_hash()
    monkeypatch.setattr("ptec_udf.model.backbone.Backbone.content_hash", lambda self: hashed.append(1) or content_hash)
    for model in models:
        loads_of(model)
    assert hashed == [1]


def test_changed_bytes_are_refused_and_nothing_is_kept(models):
    files = models[0].scoring_files | {HEAD: b""}
    before = load_count()
    with pytest.raises(ArtifactError, match=HEAD):
        scorer_for(models[0].model_id, files, SETTINGS)
    assert (load_count(), worker._scorers) == (before, {})
    assert loads_of(models[0]) == 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [({"content_hash": "0" * 64}, "must have content hash"), ({"name": "pypi:no-such-model"}, "pip install")],
)
def test_another_or_missing_backbone_is_refused(models, change, rule):
    manifest = models[0].manifest
    other = manifest.model_copy(update={"backbone": manifest.backbone.model_copy(update=change)})
    files = {name: data for name, data in models[0].files.items() if name != MANIFEST}
    sealed, files[MANIFEST] = seal(other, files)
    with pytest.raises(BackboneError, match=rule):
        scorer_for(sealed.model_id, files, SETTINGS)
    assert worker._scorers == {}
