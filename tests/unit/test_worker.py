"""A worker process loads each model once and keeps the newest two."""

from __future__ import annotations

import pytest

from ptec_udf.engine import host, worker
from ptec_udf.engine.worker import EngineSettings, load_count, scorer_for
from ptec_udf.errors import ArtifactError, BackboneError
from ptec_udf.model import artifact
from ptec_udf.model.artifact import load_artifact, seal
from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_artifact

SETTINGS = EngineSettings(dtype="float32", batch_tokens=512, window_rows=10, window_bytes=1000, threads=1)
BFLOAT16 = EngineSettings(dtype="bfloat16", batch_tokens=512, window_rows=10, window_bytes=1000, threads=1)


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(worker, "_scorers", {})
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


def test_two_models_are_kept_and_the_oldest_gives_way(models):
    assert [loads_of(models[at]) for at in (0, 1, 0, 1)] == [1, 1, 0, 0]
    assert loads_of(models[2]) == 1
    assert len(worker._scorers) == 2
    assert loads_of(models[1]) == 0
    assert loads_of(models[0]) == 1


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
    files = models[0].scoring_files | {artifact.HEAD: b""}
    before = load_count()
    with pytest.raises(ArtifactError, match=artifact.HEAD):
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
    files = {name: data for name, data in models[0].files.items() if name != artifact.MANIFEST}
    sealed, files[artifact.MANIFEST] = seal(other, files)
    with pytest.raises(BackboneError, match=rule):
        scorer_for(sealed.model_id, files, SETTINGS)
    assert worker._scorers == {}
