"""A model cuts long texts as its manifest says, in whatever way it scores; one that says nothing cuts their end."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.load import load_scorer
from ptec_udf.engine.result import OK, TRUNCATED
from ptec_udf.engine.together import score_together
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import MANIFEST
from ptec_udf.model.manifest import Manifest
from ptec_udf.preflight.plain import score_alone
from tests.tiny import TEMPLATE, tiny_artifact, tiny_backbone, tiny_extract, write_rows
from tests.tolerance import assert_logits_close
from tests.unit.test_cut import COMPANY, LONG, texts_of
from tests.unit.test_methods import task_of
from tests.unit.test_shared_pass import assert_as_alone, count, on_one_backbone
from tests.unit.trainings import CHANCE
from tests.variants import same_prompt, variant
from training.data.dataset import read_splits
from training.data.folder import DATA, RECORD
from training.evaluate.metrics import mean_average_precision
from training.methods.generative import Writer
from training.methods.head import Head
from training.methods.n_shot import NShot


def test_an_artifact_without_the_field_is_cut_at_the_end_and_says_nothing_of_it(tiny_folder):
    made = load_artifact(tiny_artifact(tiny_folder))
    assert b'"cut"' not in made.files[MANIFEST]
    assert made.manifest.cut == "end"
    scorer = load_scorer(made)
    assert scorer.encoder.encode([LONG]) == Encoder(scorer.encoder.tokenizer, 32).encode([LONG])


@pytest.fixture
def both(tiny_folder, tmp_path):
    """Two models that differ in nothing but the cut."""
    end = variant(tiny_artifact(tiny_folder), tmp_path / "end", template=COMPANY)
    return [end, variant(end, tmp_path / "longest", cut="longest_segment")]


def test_the_cut_decides_the_ids_of_a_model_and_of_its_logits(both):
    end, longest = map(load_artifact, both)
    assert longest.manifest.cut == "longest_segment"
    assert end.model_id != longest.model_id
    assert end.logits_id != longest.logits_id


def test_scores_are_those_of_each_text_alone(both):
    texts = list(texts_of(30))
    made = load_artifact(both[1])
    found, alone = load_scorer(made, batch_tokens=256).score(texts), score_alone(made, texts)
    assert {result.status for result in found} == {OK, TRUNCATED}
    for one, other in zip(found, alone, strict=True):
        assert (one.status, one.n_tokens, one.n_truncated) == (other.status, other.n_tokens, other.n_truncated)
        assert_logits_close(one.logits, other.logits)
    at_end = load_scorer(load_artifact(both[0]), batch_tokens=256).score(texts)
    assert [result.n_truncated for result in at_end] == [result.n_truncated for result in found]
    apart = [np.abs(one.logits - other.logits).max() for one, other in zip(found, at_end, strict=True)]
    was_cut = [result.status == TRUNCATED for result in found]
    assert max(gap for gap, cut in zip(apart, was_cut, strict=True) if cut) > 0.01
    assert max(gap for gap, cut in zip(apart, was_cut, strict=True) if not cut) < 1e-4


def test_cut_needs_a_backbone(both):
    values = load_artifact(both[1]).manifest.model_dump() | {"terms": {"words": 1, "characters": 2}}
    values |= dict.fromkeys(("backbone", "max_tokens", "pooling", "prompt"))
    with pytest.raises(ValidationError, match="cut must not be there without a backbone"):
        Manifest(**values)


def test_models_share_texts_only_where_they_cut_alike(both, tiny_folder, tmp_path, monkeypatch):
    other = same_prompt(both[1], tiny_artifact(tiny_folder, seed=1), tmp_path / "other")
    elsewhere = variant(both[1], tmp_path / "elsewhere", template="name: {name}. is: {about}")
    folders, texts = [*both, other, elsewhere], list(texts_of(20))
    scorers = on_one_backbone(folders)
    _, encoded = count(monkeypatch, scorers)
    found = score_together(scorers, texts)
    assert len(encoded) == 3 * len(texts)
    monkeypatch.undo()
    for results, folder in zip(found, folders, strict=True):
        assert_as_alone(results, folder, texts)


@pytest.fixture
def extract(tmp_path):
    """Texts of two segments, of which the first is long."""
    folder = tiny_extract(tmp_path / "extract")
    template = "Name: {name}. About: {about}"
    rows = pq.read_table(folder / DATA).to_pylist()
    for row in rows:
        name, about = row["text"].removeprefix("Name: ").split(". ", 1)
        row["text"] = f"Name: {name} {'zz ' * 40}. About: {about}"
    write_rows(folder, rows)
    record = json.loads((folder / RECORD).read_text("utf-8"))
    (folder / RECORD).write_text(json.dumps(record | {"template": template}), encoding="utf-8")
    return folder


def test_training_learns_from_what_is_behind_a_long_field_and_says_how_it_cut(run, extract, tmp_path, capsys):
    made = run(tmp_path / "out", extract=extract, epochs=4)
    assert made.manifest.cut == "longest_segment"
    assert "texts longer than 32 tokens (max_tokens), of which not everything is read" in capsys.readouterr().err
    dev = read_splits(extract, validation_share=0.2)["dev"]
    scored = load_scorer(made).score(dev.texts)
    assert {text.status for text in scored} == {TRUNCATED}
    assert mean_average_precision(np.stack([text.logits for text in scored]), dev.targets) > 1.4 * CHANCE
    assert made.metrics["splits"]["dev"]["overall"]["map"] > 1.4 * CHANCE


def test_one_segment_is_trained_and_named_as_before(run, companies, tmp_path):
    made = run(tmp_path / "out", extract=companies, epochs=1)
    assert made.manifest.template == TEMPLATE
    assert made.manifest.cut == "end"


def test_methods_cut_alike(extract, tiny_folder, tmp_path):
    task = task_of(extract, tmp_path / "head")
    learned = Head(backbone=tiny_backbone(tiny_folder, "bert"), max_tokens=32, inverse_penalty=1.0).learn(task)
    made = load_artifact(tmp_path / "head" / "artifact")
    assert made.manifest.cut == "longest_segment"
    assert mean_average_precision(learned.score(task.validation.texts), task.validation.targets) > 1.3 * CHANCE
    settings = NShot(backbone=tiny_backbone(tiny_folder, "writer"), max_tokens=32)
    writer = Writer.load(settings, task.names, task.template)
    assert writer.encoder.cut == "longest_segment"
    assert settings.facts()["cut"] == "longest_segment"
