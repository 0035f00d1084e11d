"""Heads on frozen embeddings and TF-IDF become artifacts that score as they were measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptec_jobs.cli_model import check_loads
from ptec_training.data.dataset import Examples, read_splits
from ptec_training.methods.linear import Head, Linear, Tfidf
from ptec_training.methods.method import Task
from ptec_udf.config import EngineConfig
from ptec_udf.engine import worker
from ptec_udf.engine.scorer import TfidfScorer
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.engine.worker import WorkerModel, scorer_for
from ptec_udf.errors import BackboneError
from ptec_udf.model.artifact import HEAD, MANIFEST, METRICS, SEEN, SUMS, TFIDF, load_artifact, read_artifact, seal
from tests.tiny import tiny_backbone
from tests.tolerance import assert_logits_close
from tests.unit.test_methods import task_of

SETTINGS = EngineConfig(dtype="float32", batch_tokens=512, window_rows=10, threads=1)
COMMON = {MANIFEST, HEAD, METRICS, SEEN, SUMS}
KINDS = ("head", "tfidf")


@pytest.fixture(scope="module")
def learned(tiny_folder, companies, tmp_path_factory):
    """What each method learned, and the artifact that it left."""
    methods: dict[str, Linear] = {
        "head": Head(backbone=tiny_backbone(tiny_folder, "bert"), max_tokens=32, C=[1e-4, 1.0]),
        "tfidf": Tfidf(C=[1e-3, 10.0]),
    }
    found = {}
    for kind, method in methods.items():
        folder = tmp_path_factory.mktemp(kind)
        found[kind] = method.learn(small_task(companies, folder)), folder / "artifact"
    return found


def small_task(companies: Path, folder: Path) -> Task:
    """A third of train, and validation with every third label wrong, so that no method finds it easy."""
    task = task_of(companies, folder)
    noisy = task.validation.targets.copy()
    noisy[::3] = np.roll(noisy[::3], 1, axis=1)
    train = Examples(task.train.keys[:80], task.train.texts[:80], task.train.targets[:80])
    return replace(task, train=train, validation=Examples(task.validation.keys, task.validation.texts, noisy))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def folder(learned, kind, tmp_path) -> Path:
    """A copy of an artifact that a test may change."""
    return shutil.copytree(learned[kind][1], tmp_path / "model")


class TestArtifact:
    def test_has_its_files_and_no_more(self, folder, kind) -> None:
        expected = COMMON | ({TFIDF} if kind == "tfidf" else set())
        assert {file.name for file in folder.iterdir()} == expected
        made = load_artifact(folder)
        assert set(made.scoring_files) == expected - {METRICS, SEEN}
        assert (made.manifest.backbone is None) == (kind == "tfidf")
        assert (made.manifest.prompt, made.manifest.lora, dict(made.adapter)) == (None, None, {})

    def test_scores_as_was_measured(self, learned, folder, kind, companies, monkeypatch) -> None:
        monkeypatch.setattr(worker, "_models", {})
        made, texts = load_artifact(folder), read_splits(companies, validation_share=0.2, others=("dev",))["dev"].texts
        scorer = scorer_for(WorkerModel.of(made), SETTINGS)
        assert_logits_close([result.logits for result in scorer.score(texts)], learned[kind][0].score(texts))
        check_loads(str(folder), made.model_id)

    def test_penalty_is_chosen_on_validation(self, folder, kind) -> None:
        metrics = load_artifact(folder).metrics
        choice = metrics["chosen_on_validation"]["C"]
        quality = {float(penalty): value for penalty, value in choice["map"].items()}
        assert choice["chosen"] == max(quality, key=quality.__getitem__)
        assert len(set(quality.values())) == 2
        assert metrics["splits"]["validation"]["overall"]["map"] == pytest.approx(quality[choice["chosen"]], abs=1e-5)

    def test_only_the_head_needs_a_backbone(self, learned) -> None:
        made = load_artifact(learned["head"][1])
        elsewhere = made.manifest.backbone.model_copy(update={"name": "path:/nowhere"})
        files = seal(made.manifest.model_copy(update={"backbone": elsewhere}), made.files)
        with pytest.raises(BackboneError, match="must have"):
            load_scorer(read_artifact(files))
        assert isinstance(load_scorer(load_artifact(learned["tfidf"][1])), TfidfScorer)
