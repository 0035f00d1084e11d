"""Every method learns made-up companies, on train and validation alone."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from ptec_training.data.dataset import Examples, read_splits
from ptec_training.data.folder import read_extract_record
from ptec_training.evaluate.metrics import macro_f1, mean_average_precision
from ptec_training.methods.linear import Head, Tfidf
from ptec_training.methods.method import Method, Task
from ptec_training.methods.neighbours import Compression, Neighbours
from ptec_training.methods.trained import Trained
from ptec_udf.model.artifact import load_artifact
from tests.tiny import tiny_backbone
from tests.unit.trainings import CHANCE

QUICK = {"max_tokens": 32, "dtype": "float32", "optimiser": {"head_lr": 0.03}, "stopping": {"epochs": 6}}


def task_of(extract: Path, folder: Path, seed: int = 0, **splits: Examples) -> Task:
    """The task of an extract; keyword arguments replace splits."""
    record = read_extract_record(extract)
    found = read_splits(extract, validation_share=0.2) | splits
    return Task(
        train=found["train"],
        validation=found["validation"],
        seed=seed,
        extract=extract,
        record=record,
        validation_share=0.2,
        folder=folder,
    )


@pytest.fixture(scope="module")
def methods(tiny_folder: Path) -> dict[str, Method]:
    backbone = tiny_backbone(tiny_folder, "bert")
    return {
        "ptec": Trained(method="ptec", backbone=backbone, prompt={"n_tokens": 4}, **QUICK),
        "lora": Trained(method="lora", backbone=backbone, lora={"rank": 4, "lr": 0.01}, **QUICK),
        "head": Head(backbone=backbone, max_tokens=32, C=[1.0]),
        "knn": Neighbours(backbone=backbone, max_tokens=32),
        "tfidf": Tfidf(),
    }


class TestMethods:
    # Embeddings of a backbone with random weights contain little of a text.
    @pytest.mark.parametrize(
        ("name", "times_chance"),
        [("ptec", 1.6), ("lora", 1.6), ("head", 1.6), ("knn", 1.2), ("tfidf", 1.6)],
    )
    def test_beats_chance_and_decides(self, methods, companies, tmp_path, name, times_chance) -> None:
        splits = read_splits(companies, validation_share=0.2, others=("dev", "test"))
        dev = splits["dev"].concat(splits["test"])
        learned = methods[name].learn(task_of(companies, tmp_path))
        logits = learned.score(dev.texts)
        assert logits.shape == dev.targets.shape
        assert mean_average_precision(logits, dev.targets) > times_chance * CHANCE
        assert 0 < learned.decisions.decide(logits).mean() < 0.9
        assert abs(learned.decisions.calibration.probabilities(logits).mean() - dev.targets.mean()) < 0.1

    @pytest.mark.parametrize("name", ["head", "knn", "tfidf"])
    def test_validation_decides_and_is_learned(self, methods, companies, tmp_path, name) -> None:
        task = task_of(companies, tmp_path)
        turned = Examples(task.validation.keys, task.validation.texts, np.roll(task.validation.targets, 1, axis=1))
        first, second = (methods[name].learn(it) for it in (task, task_of(companies, tmp_path, validation=turned)))
        assert first.decisions.common_threshold != second.decisions.common_threshold
        assert not np.array_equal(first.score(task.validation.texts), second.score(task.validation.texts))

    def test_training_leaves_its_artifact(self, methods, companies, tmp_path) -> None:
        learned = methods["ptec"].learn(task_of(companies, tmp_path, seed=3))
        made = load_artifact(tmp_path / "artifact")
        assert made.manifest.threshold_logit == learned.decisions.common_threshold
        assert not learned.decisions.decide(learned.score([" "])).any()


class TestNeighbours:
    def test_weigh_by_distance(self, methods, companies, tmp_path) -> None:
        """A text of the rows has distance 0, so only its own labels count."""
        task = task_of(companies, tmp_path)
        learned = methods["knn"].learn(task)
        assert macro_f1(learned.score(task.train.texts) > 0, task.train.targets) > 0.95


class TestCompression:
    def test_copies_the_nearest_text(self, companies, tmp_path) -> None:
        task, text = task_of(companies, tmp_path), "solar wind grid power"
        learned = Compression().learn(task)
        assert learned.decisions is None
        np.testing.assert_array_equal(learned.score(task.whole.texts[:9]), task.whole.targets[:9])
        nearest = min(range(len(task.whole)), key=lambda at: compression_distance(text, task.whole.texts[at]))
        np.testing.assert_array_equal(learned.score([text])[0], task.whole.targets[nearest])


def compression_distance(one: str, other: str) -> float:
    """Normalised compression distance by zlib without its constant head and tail."""
    alone = [len(zlib.compress(text.encode(), 9)) - 6 for text in (one, other)]
    together = len(zlib.compress(f"{one} {other}".encode(), 9)) - 6
    return (together - min(alone)) / max(alone)
