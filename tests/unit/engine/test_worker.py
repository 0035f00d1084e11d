"""A worker process loads each model once; models share backbones; the newest ones are kept."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from ptec_udf.engine import torch_engine, worker
from ptec_udf.engine.worker import EngineSettings, load_count, scorer_for
from ptec_udf.errors import ArtifactError, BackboneError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import HEAD, MANIFEST, seal
from tests.tiny import tiny_artifact
from tests.variants import with_lora

SETTINGS = EngineSettings(dtype="float32", batch_tokens=512, window_rows=10, window_bytes=1000, threads=1)
BFLOAT16 = replace(SETTINGS, dtype="bfloat16")
TEXT = ["Name: a. solar wind"]


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(worker, "_models", {})


@pytest.fixture
def models(tiny_folder):
    return [load_artifact(tiny_artifact(tiny_folder, seed=seed)) for seed in range(3)]


def scorer_of(model, settings=SETTINGS):
    return scorer_for(model.model_id, model.scoring_files, settings)


def loads_of(model, settings=SETTINGS):
    before = load_count()
    scorer_of(model, settings)
    return load_count() - before


def backbone_of(model, settings=SETTINGS):
    return scorer_of(model, settings).engine.network.members[0].backbone


class TestCache:
    def test_loads_a_model_once(self, models):
        assert [loads_of(models[0]) for _ in range(3)] == [1, 0, 0]
        assert scorer_of(models[0]) is scorer_of(models[0])

    def test_ignores_the_size_of_windows(self, models):
        assert [loads_of(models[0]), loads_of(models[0], replace(SETTINGS, window_rows=99, window_bytes=1))] == [1, 0]

    def test_knows_other_dtypes_and_batches_as_other_models(self, models):
        assert [loads_of(models[0]), loads_of(models[0], BFLOAT16), loads_of(models[0])] == [1, 1, 0]
        assert str(backbone_of(models[0], BFLOAT16).dtype) == "torch.bfloat16"
        assert scorer_of(models[0], replace(SETTINGS, batch_tokens=64)).batch_tokens == 64

    def test_shares_a_backbone_except_with_lora(self, models, tiny_folder, tmp_path):
        lora = load_artifact(with_lora(tiny_artifact(tiny_folder), tmp_path / "lora"))
        before = scorer_of(models[0]).score(TEXT)[0].logits
        first, *others = map(backbone_of, models)
        assert all(other is first for other in others)
        assert backbone_of(lora) is not first
        assert (scorer_of(models[0]).score(TEXT)[0].logits == before).all()
        assert abs(scorer_of(models[1]).score(TEXT)[0].logits - before).max() > 0.01

    def test_keeps_nothing_of_a_model_that_fails(self, models):
        with pytest.raises(ArtifactError, match=HEAD):
            scorer_for(models[0].model_id, models[0].scoring_files | {HEAD: b""}, SETTINGS)
        assert loads_of(models[0]) == 1

    @pytest.mark.parametrize(
        ("change", "rule"),
        [({"content_hash": "0" * 64}, "must have content hash"), ({"name": "pypi:no-such-model"}, "pip install")],
    )
    def test_refuses_another_or_missing_backbone(self, models, change, rule):
        manifest = models[0].manifest
        other = manifest.model_copy(update={"backbone": manifest.backbone.model_copy(update=change)})
        files = {name: data for name, data in models[0].files.items() if name != MANIFEST}
        sealed, files[MANIFEST] = seal(other, files)
        with pytest.raises(BackboneError, match=rule):
            scorer_for(sealed.model_id, files, SETTINGS)


class TestEviction:
    def test_drops_the_oldest_backbone_with_its_models(self, models, tiny_folder):
        llama, bloom = (load_artifact(tiny_artifact(tiny_folder, family)) for family in ("llama", "bloom"))
        assert [loads_of(model) for model in (*models, llama, *models)] == [1, 1, 1, 1, 0, 0, 0]
        assert [loads_of(model) for model in (bloom, llama, models[0])] == [1, 0, 1]

    def test_limits_the_number_of_models(self, models, monkeypatch):
        monkeypatch.setattr(worker, "MAX_MODELS", 2)
        assert [loads_of(models[at]) for at in (0, 1, 2, 2, 1, 0)] == [1, 1, 1, 0, 0, 1]

    def test_frees_the_backbone_and_gpu_memory(self, tiny_folder, tmp_path, monkeypatch):
        made, released, alive = tiny_artifact(tiny_folder), [], []
        monkeypatch.setattr(torch_engine, "release_gpu_memory", lambda: released.append(1))
        layers = [f"encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1) for part in ("query", "value")]
        models = [load_artifact(with_lora(made, tmp_path / layer, layer)) for layer in layers]
        gc.disable()
        try:
            for model in models:
                alive.append(weakref.ref(backbone_of(model)))
        finally:
            gc.enable()
        assert [backbone() is None for backbone in alive] == [True, True, False, False]
        assert len(released) == 2


class TestDevice:
    def test_threads_are_those_of_the_running_task(self, models):
        before = torch.get_num_threads()
        try:
            for threads in (2, 1, 2):
                scorer_of(models[0], replace(SETTINGS, threads=threads))
                assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)

    def test_models_follow_the_device_of_the_running_task(self, models, monkeypatch):
        """The meta device is a GPU that computes nothing: weights really move there."""
        scorer = scorer_of(models[0])
        monkeypatch.setattr(worker, "task_device", lambda device: "meta")
        assert scorer_of(models[0]) is scorer
        assert {str(weight.device) for weight in scorer.engine.network.parameters()} == {"meta"}
