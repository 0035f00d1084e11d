"""A text that kills the process that scores it is named, and costs no other its score."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from ptec_udf.engine import isolated as module
from ptec_udf.engine.isolated import KILLED, IsolatedScorer, isolated
from ptec_udf.engine.worker import EngineSettings, scorer_for
from ptec_udf.errors import PtecError
from ptec_udf.model.artifact import load_artifact
from tests.faulty import DEADLY, STARTS_LEFT, python_path_with_fault
from tests.tiny import tiny_artifact, tiny_companies, tiny_text

SETTINGS = EngineSettings(dtype="float32", batch_tokens=512, window_rows=10, window_bytes=1000, threads=1)
TEXTS = [tiny_text(company) for company in tiny_companies(9)]


@pytest.fixture
def model(tiny_folder):
    artifact = load_artifact(tiny_artifact(tiny_folder))
    return artifact.model_id, artifact.scoring_files, SETTINGS


def test_scores_are_those_of_this_process(model):
    texts = [*TEXTS, None, "  "]
    with isolated(*model) as scorer:
        found = scorer.score(texts)
    expected = scorer_for(*model).score(texts)
    assert [one.status for one in found] == ["ok"] * 9 + ["empty"] * 2
    for mine, plain in zip(found[:9], expected, strict=False):
        np.testing.assert_array_equal(mine.logits, plain.logits)


def test_deadly_texts_are_named_and_their_neighbours_are_scored(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", python_path_with_fault(tmp_path, "plant_death"))
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 4)
    texts = [*TEXTS[:2], f"a {DEADLY} text", *TEXTS[2:5], DEADLY]
    with isolated(*model) as scorer:
        found = scorer.score(texts)
    assert [one.error for one in found] == [None, None, KILLED, None, None, None, KILLED]
    assert [one.logits is None for one in found] == [one.status == "error" for one in found]
    assert {one.status for one in found} == {"ok", "error"}


def test_process_that_dies_of_every_text_ends_the_pass(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", python_path_with_fault(tmp_path, "plant_death"))
    monkeypatch.setattr(module, "_MOST_GIVEN_UP", 2)
    with isolated(*model) as scorer, pytest.raises(PtecError, match="2 texts in a row killed the process"):
        scorer.score([DEADLY] * 3)


@pytest.mark.parametrize(("deaths", "is_scored"), [(2, True), (3, False)])
def test_process_that_dies_before_it_has_begun_is_started_again(model, tmp_path, monkeypatch, deaths, is_scored):
    left = tmp_path / "left"
    left.write_text(str(deaths))
    monkeypatch.setenv(STARTS_LEFT, str(left))
    monkeypatch.setenv("PYTHONPATH", python_path_with_fault(tmp_path, "plant_early_deaths"))
    monkeypatch.setattr(module, "_WAITS_TO_LOAD_S", (0, 0))
    expected = nullcontext() if is_scored else pytest.raises(PtecError, match="died before it had loaded the model")
    with isolated(*model) as scorer, expected:
        assert scorer.score(TEXTS[:1])[0].status == "ok"
    assert left.read_text() == "0"


def test_process_that_cannot_load_the_model_ends_the_pass(model, tmp_path):
    model_id, files, settings = model
    scorer = IsolatedScorer(model_id, {**files, "manifest.json": b"{}"}, settings)
    with pytest.raises(PtecError, match="manifest"):
        scorer.score(TEXTS)
