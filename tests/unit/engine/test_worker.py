"""A worker process loads each model once; models share backbones; the newest ones are kept."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from ptec_udf.config import EngineConfig
from ptec_udf.engine import worker
from ptec_udf.engine.worker import WorkerModel, score_batches, scorer_for, windows
from ptec_udf.errors import ArtifactError, BackboneError
from ptec_udf.model.artifact import HEAD, load_artifact, seal
from tests.tiny import tiny_artifact
from tests.variants import with_lora

SETTINGS = EngineConfig(dtype="float32", batch_tokens=512, window_rows=10, threads=1)
BFLOAT16 = SETTINGS.model_copy(update={"dtype": "bfloat16"})
TEXT = ["Name: a. solar wind"]


@pytest.fixture
def models(tiny_folder):
    return [load_artifact(tiny_artifact(tiny_folder, seed=seed)) for seed in range(3)]


def scorer_of(model, settings=SETTINGS):
    return scorer_for(WorkerModel.of(model), settings)


def backbone_of(model, settings=SETTINGS):
    return scorer_of(model, settings).engine.networks[0].backbone


class TestWindows:
    @pytest.mark.parametrize("max_rows", [1, 3, 7, 100])
    def test_keep_rows_and_their_order(self, max_rows):
        made = list(windows(["abcde", [], ["f", None, "h"]], max_rows, 10**6))
        assert [text for window in made for text in window] == [*"abcdef", None, "h"]
        assert all(len(window) == max_rows for window in made[:-1])
        assert len(made[-1]) <= max_rows

    def test_close_at_a_number_of_bytes(self):
        assert [len(window) for window in windows([["ä" * 6, "b", "c" * 30, "d"]], 100, 12)] == [1, 2, 1]


class TestScoreBatches:
    def test_scores_each_text_in_order(self, models):
        texts = ["solar", None, "wind grid", "film"]
        found = score_batches([texts[:1], texts[1:]], WorkerModel.of(models[0]), SETTINGS)
        logits = [result.logits for results in found for result in results]
        for one, expected in zip(logits, scorer_of(models[0]).score(texts), strict=True):
            assert one is expected.logits is None or abs(one - expected.logits).max() < 1e-4


class TestCache:
    def test_loads_a_model_once_whatever_the_windows(self, models):
        first = scorer_of(models[0])
        assert scorer_of(models[0]) is scorer_of(models[0], SETTINGS.model_copy(update={"window_rows": 99})) is first

    def test_other_dtypes_and_batches_are_other_models(self, models):
        assert scorer_of(models[0]) is not scorer_of(models[0], BFLOAT16)
        assert str(backbone_of(models[0], BFLOAT16).dtype) == "torch.bfloat16"
        assert scorer_of(models[0], SETTINGS.model_copy(update={"batch_tokens": 64})).batch_tokens == 64

    def test_shares_a_backbone_except_with_lora(self, models, tiny_folder, tmp_path):
        lora = load_artifact(with_lora(tiny_artifact(tiny_folder), tmp_path / "lora"))
        before = scorer_of(models[0]).score(TEXT)[0].logits
        first, *others = map(backbone_of, models)
        assert all(other is first for other in others)
        assert backbone_of(lora) is not first
        assert (scorer_of(models[0]).score(TEXT)[0].logits == before).all()
        assert abs(scorer_of(models[1]).score(TEXT)[0].logits - before).max() > 0.01

    def test_keeps_the_newest_models_and_frees_others(self, tiny_folder, tmp_path):
        layers = [f"encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1) for part in ("query", "value")]
        made = [with_lora(tiny_artifact(tiny_folder), tmp_path / layer, layer) for layer in layers]
        models, alive = [load_artifact(folder) for folder in made], []
        gc.disable()
        try:
            for model in models:
                alive.append(weakref.ref(backbone_of(model)))
        finally:
            gc.enable()
        assert [backbone() is None for backbone in alive] == [True, True, False, False]

    def test_keeps_nothing_of_a_model_that_fails(self, models):
        with pytest.raises(ArtifactError, match=HEAD):
            scorer_for(WorkerModel("new", models[0].scoring_files | {HEAD: b""}), SETTINGS)
        assert scorer_for(WorkerModel("new", models[0].scoring_files), SETTINGS).score(TEXT)[0].logits is not None

    @pytest.mark.parametrize(
        ("change", "rule"),
        [({"content_hash": "0" * 64}, "must have content hash"), ({"name": "pypi:no-such-model"}, "pip install")],
    )
    def test_refuses_another_or_missing_backbone(self, models, monkeypatch, change, rule):
        monkeypatch.setattr(worker, "_models", {})
        manifest = models[0].manifest
        other = manifest.model_copy(update={"backbone": manifest.backbone.model_copy(update=change)})
        with pytest.raises(BackboneError, match=rule):
            scorer_for(WorkerModel("other", seal(other, models[0].files)), SETTINGS)


class TestDevice:
    def test_threads_are_those_of_the_running_task(self, models):
        before = torch.get_num_threads()
        try:
            for threads in (2, 1, 2):
                scorer_of(models[0], SETTINGS.model_copy(update={"threads": threads}))
                assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
