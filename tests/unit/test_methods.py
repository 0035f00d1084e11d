"""Every method learns made-up companies, on train and validation alone."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.model.artifact import load_artifact
from tests.tiny import tiny_backbone, tiny_extract
from tests.unit.trainings import CHANCE
from training.data.dataset import Examples, read_splits
from training.data.folder import read_extract_record
from training.evaluate.metrics import macro_f1, mean_average_precision
from training.fit.logistic import log_odds
from training.methods.artifact import Trained
from training.methods.compression import Compression
from training.methods.head import Head
from training.methods.lora import Lora
from training.methods.method import Learned, Method, Task
from training.methods.neighbours import Neighbours, Radius
from training.methods.ptec import Ptec
from training.methods.tfidf import Tfidf

QUICK = {"max_tokens": 32, "dtype": "float32", "prompt": {"n_tokens": 4}, "optimiser": {"head_lr": 0.03}}
WITHOUT_PROMPT = {name: value for name, value in QUICK.items() if name != "prompt"}


def task_of(extract: Path, folder: Path, seed: int = 0, **splits: Examples) -> Task:
    record = read_extract_record(extract)
    found = read_splits(extract, validation_share=0.2) | splits
    return Task(
        names=[label["name"] for label in record["labels"]],
        train=found["train"],
        validation=found["validation"],
        seed=seed,
        extract=extract,
        extract_fingerprint=record["fingerprint"],
        template=record["template"],
        validation_share=0.2,
        folder=folder,
        shared=folder / "shared",
    )


def methods_on(backbone: str) -> dict[str, Method]:
    return {
        "ptec": Ptec(backbone=backbone, stopping={"epochs": 6}, **QUICK),
        "lora": Lora(backbone=backbone, stopping={"epochs": 6}, lora={"rank": 4, "lr": 0.01}, **WITHOUT_PROMPT),
        "head": Head(backbone=backbone, max_tokens=32, inverse_penalty=1.0),
        "knn": Neighbours(backbone=backbone, max_tokens=32, sizes=[1, 5, 9, 1000]),
        "radius": Radius(backbone=backbone, max_tokens=32),
        "tfidf": Tfidf(),
    }


@pytest.fixture(scope="module")
def methods(tiny_folder: Path) -> dict[str, Method]:
    return methods_on(tiny_backbone(tiny_folder, "bert"))


# Embeddings of a backbone with random weights hold little of what a text says.
@pytest.mark.parametrize(
    ("name", "times_chance"),
    [("ptec", 1.6), ("lora", 1.6), ("head", 1.6), ("knn", 1.2), ("radius", 1.1), ("tfidf", 1.6)],
)
def test_method_beats_chance_and_decides(methods, companies, tmp_path, name, times_chance):
    splits = read_splits(companies, validation_share=0.2)
    dev = splits["dev"].joined(splits["test"])
    learned = methods[name].learn(task_of(companies, tmp_path))
    logits = learned.score(dev.texts)
    assert logits.shape == dev.targets.shape
    assert np.isfinite(logits).all()
    assert mean_average_precision(logits, dev.targets) > times_chance * CHANCE
    decided = learned.decisions.decide(logits)
    assert 0 < decided.mean() < 0.9
    probabilities = learned.decisions.calibration.probabilities(logits)
    assert abs(probabilities.mean() - dev.targets.mean()) < 0.1


@pytest.mark.parametrize("name", ["head", "knn", "tfidf"])
def test_score_of_a_text_does_not_depend_on_the_others(methods, companies, tmp_path, name):
    texts = read_splits(companies, validation_share=0.2)["dev"].texts
    score = methods[name].learn(task_of(companies, tmp_path)).score
    np.testing.assert_allclose(score(texts[3:4]), score(texts)[3:4], atol=2e-2)  # bfloat16 differs between batches


def test_ptec_leaves_an_artifact_that_decides_as_it_did(methods, companies, tmp_path):
    learned = methods["ptec"].learn(task_of(companies, tmp_path, seed=3))
    made = load_artifact(tmp_path / "artifact")
    assert made.manifest.threshold_logit == learned.decisions.common_threshold
    np.testing.assert_allclose([label.threshold for label in made.manifest.labels], learned.decisions.thresholds)
    assert not learned.decisions.decide(learned.score([" "])).any()


def test_compression_copies_the_nearest_text_of_train_and_validation(companies, tmp_path):
    task = task_of(companies, tmp_path)
    learned = Compression().learn(task)
    assert learned.decisions is None
    np.testing.assert_array_equal(learned.score(task.whole.texts[:9]), task.whole.targets[:9])
    nearest = min(
        range(len(task.whole)), key=lambda at: distance_by_the_book("solar wind grid power", task.whole.texts[at])
    )
    np.testing.assert_array_equal(learned.score(["solar wind grid power"])[0], task.whole.targets[nearest])


def distance_by_the_book(one: str, other: str) -> float:
    """Normalised compression distance, with zlib's own constant head and tail taken off."""
    alone = [len(zlib.compress(text.encode(), 9)) - 6 for text in (one, other)]
    together = len(zlib.compress(f"{one} {other}".encode(), 9)) - 6
    return (together - min(alone)) / max(alone)


def test_neighbours_too_far_away_leave_the_most_frequent_label(methods, companies, tmp_path):
    task = task_of(companies, tmp_path)
    radius = Radius(backbone=methods["radius"].backbone, max_tokens=32, shares=[0.0])  # none but the very nearest pair
    scores = radius.learn(task).score(["zzz zzz"])
    assert scores[0].argmax() == task.whole.targets.sum(axis=0).argmax()
    assert (np.sort(scores[0])[:-1] == scores[0].min()).all()


def test_neighbours_weigh_by_distance(methods, companies, tmp_path):
    """A text of the rows has distance 0, so its own labels are all that counts."""
    task = task_of(companies, tmp_path)
    learned = Neighbours(backbone=methods["knn"].backbone, max_tokens=32, sizes=[5]).learn(task)
    assert macro_f1(learned.score(task.train.texts) > 0, task.train.targets) > 0.95


@pytest.mark.parametrize("name", ["head", "knn", "radius", "tfidf"])
def test_validation_decides_and_is_learned_from_in_the_end(methods, companies, tmp_path, name):
    """Other labels of validation give another threshold, and another final model."""
    task = task_of(companies, tmp_path)
    turned = Examples(task.validation.keys, task.validation.texts, np.roll(task.validation.targets, 1, axis=1))
    first, second = (methods[name].learn(it) for it in (task, task_of(companies, tmp_path, validation=turned)))
    assert first.decisions.common_threshold != second.decisions.common_threshold
    assert not np.array_equal(first.score(task.validation.texts), second.score(task.validation.texts))


def test_log_odds_are_finite_and_rise():
    values = log_odds(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    np.testing.assert_allclose(values[1:4], [-np.log(3), 0, np.log(3)])
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()


def test_artifact_scores_as_the_training_that_made_it(run, companies, tmp_path):
    made = run(tmp_path / "made", epochs=1)
    learned = Trained(folder=str(tmp_path / "made")).learn(task_of(companies, tmp_path))
    dev = read_splits(companies, validation_share=0.2)["dev"]
    measured = made.metrics["splits"]["dev"]["overall"]
    logits = learned.score(dev.texts)
    assert mean_average_precision(logits, dev.targets) == pytest.approx(measured["map"], abs=1e-6)
    decided = learned.decisions.decide(logits)
    assert macro_f1(decided, dev.targets) == pytest.approx(measured["macro_f1"], abs=1e-6)


def test_artifact_has_cost_its_training_and_the_search_for_its_settings(run, companies, tmp_path):
    cost = run(tmp_path / "made", epochs=1).metrics["learning"]
    assert cost["flop"] > 1e6

    def learned(search: str | None) -> Learned:
        return Trained(folder=str(tmp_path / "made"), search=search).learn(task_of(companies, tmp_path))

    alone = learned(None)
    assert (alone.seconds, alone.flop) == (cost["seconds"], cost["flop"])
    trials = [{"trial": 1, "pruned": True, "seconds": 2.5, "flop": 1e3}, {"trial": 2, "seconds": 4.0, "flop": 1e6}]
    of_same = {"extract": read_extract_record(companies)["fingerprint"], "trials": trials}
    (tmp_path / "results.json").write_text(json.dumps(of_same), encoding="utf-8")
    found = learned(str(tmp_path))
    assert (found.seconds, found.flop) == (cost["seconds"] + 6.5, cost["flop"] + 1_001_000)
    for broken in ("[1]", '{"methods": {}}', "{"):
        (tmp_path / "results.json").write_text(broken, encoding="utf-8")
        with pytest.raises(SourceError, match=r"a folder that ptec search has ended in, .* has no results\.json"):
            learned(str(tmp_path))
    (tmp_path / "results.json").write_text(json.dumps(of_same | {"extract": "other"}), encoding="utf-8")
    with pytest.raises(SourceError, match=r"search must be of the extract that is compared on, .* is of another"):
        Trained(folder=str(tmp_path / "made"), search=str(tmp_path)).check(task_of(companies, tmp_path))


def test_artifact_of_another_extract_is_refused(run, tmp_path, companies):
    """It may have learned from the rows that judge."""
    run(tmp_path / "made", epochs=1)
    other = tiny_extract(tmp_path / "other", n=100, seed=1)
    with pytest.raises(ConfigError, match=r"must be trained from the extract .*other', was not: .*made'"):
        Trained(folder=str(tmp_path / "made")).check(task_of(other, tmp_path))


def test_another_artifact_in_the_same_folder_is_another_method(run, tmp_path):
    method = Trained(folder=str(tmp_path / "made"))
    run(tmp_path / "made", epochs=1)
    before = method.facts()
    run(tmp_path / "made", "seed=7", "overwrite=true", epochs=1)
    assert method.facts() != before
