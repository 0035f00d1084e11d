"""A network and word statistics as one model: what is added, how much of it, and that it scores as measured."""

from __future__ import annotations

import numpy as np
import pytest

from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import read_artifact
from ptec_udf.model.artifact_format import ADAPTER, MANIFEST, TFIDF, seal
from ptec_udf.model.tfidf import TfidfHead
from tests.tolerance import assert_logits_close
from tests.unit.trainings import stop_after, weights_of
from training.config import TermsSettings
from training.data.dataset import Rows, read_splits
from training.evaluate.metrics import mean_average_precision
from training.fit.tfidf import Words, balanced

WORDS = "terms={inverse_penalty: [1, 10], shares: [0.5, 1.0]}"


@pytest.fixture(scope="module")
def splits(companies):
    return read_splits(companies, validation_share=0.2)


def rows_of(examples):
    return Rows([[1]] * len(examples), examples.targets, examples.keys, examples.texts)


def test_what_validation_finds_best_is_added(splits):
    """Beside logits of chance words say all; beside logits that are right already they are not asked for."""
    train, validation = rows_of(splits["train"]), rows_of(splits["validation"])
    chance = np.random.default_rng(0).normal(size=validation.targets.shape)
    settings = TermsSettings(inverse_penalty=[0.1, 10.0], shares=[0.2, 1.0])
    words = Words(settings)
    found = words.chosen_by(validation, chance, train)
    report = words.report["terms"]
    assert len(report["map"]) == 1 + 2 * 2
    summed = mean_average_precision(chance + found.logits(validation.texts), validation.targets)
    assert summed == pytest.approx(max(report["map"].values()), abs=1e-6)
    assert summed > report["map"]["none"] + 0.2
    weights = balanced(train.targets)
    np.testing.assert_allclose(found.log_weights, report["factor"] * np.log(weights[:, 1] / weights[:, 0]))
    unwanted = Words(settings)
    assert unwanted.chosen_by(validation, 2.0 * validation.targets - 1, train) is None
    assert unwanted.fitted_to(train) is None
    assert unwanted.report["terms"]["factor"] is None
    assert Words(None).chosen_by(validation, chance, train) is None


@pytest.mark.parametrize("refit", [False, True], ids=["first", "refit"])
def test_artifact_scores_as_measured_in_any_batch(run, companies, tmp_path, refit):
    made = run(tmp_path / "made", WORDS, f"stopping.refit={str(refit).lower()}", epochs=1)
    assert made.manifest.tfidf is not None
    assert made.metrics["chosen_on_validation"]["terms"]["factor"] > 0
    dev, scorer = read_splits(companies, validation_share=0.15)["dev"], load_scorer(made)
    together = np.stack([text.logits for text in scorer.score(dev.texts)])
    measured = made.metrics["splits"]["dev"]["overall"]["map"]
    assert mean_average_precision(together, dev.targets) == pytest.approx(measured, abs=1e-6)
    assert_logits_close(np.stack([scorer.score([text])[0].logits for text in dev.texts]), together)
    words = TfidfHead(made.tfidf, *made.tfidf_head)
    scorer.tfidf = None
    network = np.stack([text.logits for text in scorer.score(dev.texts)])
    assert_logits_close(together - network, np.stack([words.logits(text) for text in dev.texts]))
    assert abs(together - network).max() > 0.1


def test_network_is_the_one_without_words_and_a_killed_training_takes_them_up(run, tmp_path, monkeypatch, capsys):
    alone = run(tmp_path / "alone")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=2)
        run(tmp_path / "made")
    made = run(tmp_path / "made", WORDS)
    assert "training resumes after epoch 2" in capsys.readouterr().err
    assert weights_of(made)[ADAPTER] == weights_of(alone)[ADAPTER]
    np.testing.assert_array_equal(made.head_weight, alone.head_weight)
    assert made.logits_id != alone.logits_id
    assert made.metrics["learning"]["flop"] > alone.metrics["learning"]["flop"]
    assert run(tmp_path / "next", WORDS, f"start_from={tmp_path / 'made'}", epochs=1).metrics["started_from"]


def test_weights_of_other_terms_are_refused(run, tmp_path):
    made = run(tmp_path / "made", WORDS, epochs=1)
    files = {name: data for name, data in made.files.items() if name != MANIFEST}
    files[TFIDF] = files[TFIDF].replace(b'"wind": ', b'"wind": 1,\n"zzz": ', 1)
    with pytest.raises(ArtifactError, match=r"head\.safetensors: must hold a weight for each term of terms\.json"):
        read_artifact(files | {MANIFEST: seal(made.manifest, files)[1]})
