"""Heads on frozen embeddings and TF-IDF become artifacts that score as they were measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline, make_union

from jobs.cli_model import check_loads
from ptec_udf.config import EngineConfig
from ptec_udf.engine import worker
from ptec_udf.engine.scorer import TfidfScorer
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.engine.worker import scorer_for
from ptec_udf.errors import ArtifactError, BackboneError
from ptec_udf.model.artifact import HEAD, MANIFEST, METRICS, SEEN, SUMS, TFIDF, load_artifact, read_artifact, seal
from ptec_udf.monitor.training import training_reference
from tests.tiny import LABELS, tiny_backbone
from tests.tolerance import assert_logits_close
from tests.unit.test_methods import task_of
from training.data.dataset import Examples, read_splits
from training.evaluate.metrics import mean_average_precision
from training.fit.tfidf import SOLVER
from training.methods.linear import Head, Linear, Tfidf
from training.methods.method import Task

SETTINGS = EngineConfig(dtype="float32", batch_tokens=512, window_rows=10, window_bytes=1000, threads=1)
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


def test_artifact_holds_its_files_and_no_more(folder, kind):
    expected = COMMON | ({TFIDF} if kind == "tfidf" else set())
    assert {file.name for file in folder.iterdir()} == expected
    made = load_artifact(folder)
    assert set(made.scoring_files) == expected - {METRICS, SEEN}
    assert (made.manifest.backbone is None) == (kind == "tfidf")
    assert (made.manifest.prompt, made.manifest.lora, dict(made.adapter)) == (None, None, {})


def test_executor_scores_as_was_measured(learned, folder, kind, companies, monkeypatch):
    monkeypatch.setattr(worker, "_models", {})
    made, texts = load_artifact(folder), read_splits(companies, validation_share=0.2, others=("dev",))["dev"].texts
    scorer = scorer_for(made.model_id, made.scoring_files, SETTINGS)
    assert_logits_close([result.logits for result in scorer.score(texts)], learned[kind][0].score(texts))
    check_loads(str(folder), made.model_id)


def test_tfidf_scores_as_scikit_learn_fitted_alike(learned, companies, tmp_path):
    task, made = small_task(companies, tmp_path), load_artifact(learned["tfidf"][1])
    options = {"C": made.metrics["chosen_on_validation"]["C"]["chosen"], "class_weight": "balanced"}
    pipeline = make_pipeline(
        make_union(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2),
            TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5), min_df=3),
        ),
        OneVsRestClassifier(LogisticRegression(**options, **SOLVER)),
    )
    texts = read_splits(companies, validation_share=0.2, others=("dev",))["dev"].texts
    expected = pipeline.fit(task.whole.texts, task.whole.targets).decision_function(texts)
    np.testing.assert_allclose(learned["tfidf"][0].score(texts), expected, rtol=0, atol=1e-6)


def test_decisions_are_those_of_the_artifact(learned, folder, kind):
    made, decisions = load_artifact(folder), learned[kind][0].decisions
    assert made.manifest.threshold_logit == decisions.common_threshold
    np.testing.assert_allclose([label.threshold for label in made.manifest.labels], decisions.thresholds)
    assert made.manifest.calibrator == "platt"


def test_penalty_is_chosen_on_validation_and_the_choice_is_recorded(folder, kind):
    metrics = load_artifact(folder).metrics
    choice = metrics["chosen_on_validation"]["C"]
    quality = {float(penalty): value for penalty, value in choice["map"].items()}
    assert choice["chosen"] == max(quality, key=quality.__getitem__)
    assert len(set(quality.values())) == 2
    assert metrics["splits"]["validation"]["overall"]["map"] == pytest.approx(quality[choice["chosen"]], abs=1e-5)


def test_a_model_that_learned_from_validation_too_has_no_reference_for_drift(folder):
    metrics = load_artifact(folder).metrics
    assert metrics["splits"]["validation"]["per_label"].keys() == set(LABELS)
    assert training_reference(metrics) == {}


def test_model_learns_from_train_and_validation_in_the_end(learned, folder, kind, companies, tmp_path):
    """Rows of validation are what the first fit does not know."""
    task = small_task(companies, tmp_path)
    quality = mean_average_precision(learned[kind][0].score(task.validation.texts), task.validation.targets)
    assert quality > load_artifact(folder).metrics["splits"]["validation"]["overall"]["map"]


def test_changed_byte_and_missing_file_are_refused_with_the_name(folder):
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        middle = len(data) // 2
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        with pytest.raises(ArtifactError, match=file.name):
            load_artifact(folder)
        file.unlink()
        with pytest.raises(ArtifactError, match=f"{file.name}: file .*is missing"):
            load_artifact(folder)
        file.write_bytes(data)
    load_artifact(folder)


def test_head_needs_its_backbone_and_tfidf_none(learned):
    made = load_artifact(learned["head"][1])
    elsewhere = made.manifest.backbone.model_copy(update={"name": "path:/nowhere"})
    files = seal(made.manifest.model_copy(update={"backbone": elsewhere}), made.files)
    with pytest.raises(BackboneError, match="must have"):
        load_scorer(read_artifact(files))
    assert isinstance(load_scorer(load_artifact(learned["tfidf"][1])), TfidfScorer)


@pytest.mark.parametrize("penalties", [[], [0.0], [1.0, -1.0]])
def test_penalties_must_be_over_0(penalties):
    with pytest.raises(ValidationError):
        Tfidf(C=penalties)
