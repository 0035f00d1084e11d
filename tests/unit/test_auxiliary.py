"""Auxiliary labels are learned beside the taxonomy's, shape the prompt, and leave no trace in the artifact."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load

from ptec_udf.config_file import load_config
from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.torch_engine import pad
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.model.artifact_format import ADAPTER, CHOICE
from tests.tiny import LABELS, tiny_backbone, tiny_extract, write_rows
from tests.unit.trainings import QUICK, weights_of
from training.config import TrainConfig
from training.data.dataset import read_splits, tokenised
from training.data.folder import DATA, RECORD
from training.fit.checkpoint import Checkpoint
from training.fit.inputs import prepare
from training.fit.loss import loss_sum
from training.fit.trainer import trained_parameters

WEIGHT = "auxiliary={weight: .5}"
TAGS = ("solar", "film", "gene")


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """An extract whose auxiliary labels are words of the texts; every fourth row has none."""
    folder = tiny_extract(tmp_path_factory.mktemp("extracts") / "tagged", n=120)
    rows = pq.read_table(folder / DATA).to_pylist()
    for at, row in enumerate(rows):
        row["auxiliary"] = [tag for tag in TAGS if tag in row["text"]] if at % 4 else None
    write_rows(folder, rows)
    record = json.loads((folder / RECORD).read_text())
    counts = {split: 0 for split in ("train", "dev", "test")}
    (folder / RECORD).write_text(json.dumps(record | {"auxiliary": [{"name": tag, **counts} for tag in TAGS]}))
    return folder


@pytest.fixture
def prepared(tiny_folder, tagged, tmp_path):
    """What ``ptec train`` starts from, with auxiliary labels."""
    options = [f"extract={tagged}", f"out={tmp_path / 'out'}", f"backbone={tiny_backbone(tiny_folder, 'bert')}"]
    return prepare(
        load_config(TrainConfig, None, [*options, *QUICK, WEIGHT, "token_dropout=0"]), ("train", "validation")
    )


def test_rows_know_their_auxiliary_labels_or_that_none_are_known(tagged, load_tiny):
    examples = read_splits(tagged, validation_share=0.3, auxiliary=True)
    rows = {split: tokenised(part, Encoder(load_tiny("bert")[1], 32)) for split, part in examples.items()}
    expected = {row["key"]: row["auxiliary"] for row in pq.read_table(tagged / DATA).to_pylist()}
    whole = rows["train"].joined(rows["validation"])
    for key, values in zip(whole.keys, whole.auxiliary, strict=True):
        if expected[key] is None:
            assert np.isnan(values).all()
        else:
            assert [tag for tag, value in zip(TAGS, values, strict=True) if value] == expected[key]
    assert 0.1 < np.isnan(whole.auxiliary).mean() < 0.4
    assert read_splits(tagged, validation_share=0.3)["train"].auxiliary is None


def test_unknown_cells_have_no_loss():
    logits, weights = torch.tensor([[0.3, -2.0], [1.0, 0.5]], requires_grad=True), torch.tensor([3.0, 1.0])
    targets = torch.tensor([[1.0, 0.0], [float("nan"), float("nan")]])
    loss = loss_sum(logits, targets, weights)
    torch.testing.assert_close(loss, loss_sum(logits[:1], targets[:1], weights))
    loss.backward()
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[0] != 0).all()


def gradients(prepared, batch, **changes):
    """Gradients of the loss of a batch, by parameter."""
    rows = prepared.rows["train"]
    trainer = prepared.start.trainer(rows, None, 1, Checkpoint("-", ""))
    for name, value in changes.items():
        getattr(rows, name)[batch] = value
    features = trainer.network.eval().features(*pad([rows.inputs[row] for row in batch], 0))
    trainer._loss(features, batch, list(range(len(batch)))).backward()
    return {name: parameter.grad for name, parameter in trained_parameters(trainer.network)}


def test_rows_without_auxiliary_labels_contribute_their_labels_alone(prepared):
    batch = [int(at) for at in np.flatnonzero(np.isnan(prepared.rows["train"].auxiliary[:, 0]))[:4]]
    unknown = gradients(prepared, batch)
    known = gradients(prepared, batch, auxiliary=[1, 0, 0])
    assert (unknown["head.auxiliary.linear.weight"] == 0).all()
    assert known["head.auxiliary.linear.weight"].abs().max() > 0
    assert torch.equal(unknown["head.linear.weight"], known["head.linear.weight"])
    assert (unknown["prompt"] - known["prompt"]).abs().max() > 1e-6


def test_auxiliary_labels_shape_the_prompt_and_are_not_in_the_artifact(run, tmp_path, tagged):
    alone = run(tmp_path / "alone", epochs=1, extract=tagged)  # tags are there, and not wanted
    beside = run(tmp_path / "beside", WEIGHT, "stopping.refit=true", epochs=1, extract=tagged)
    assert weights_of(beside)[ADAPTER] != weights_of(alone)[ADAPTER]
    assert [label.name for label in beside.manifest.labels] == list(LABELS)
    assert beside.head_weight.shape == alone.head_weight.shape == (len(LABELS), 32)
    assert set(load(beside.files[CHOICE])) == {"prompt_embeddings", "head.weight", "head.bias"}
    assert load(beside.files[CHOICE])["head.weight"].shape == (len(LABELS), 32)
    assert set(beside.metrics["splits"]["dev"]["per_label"]) == set(LABELS)


def test_extract_without_auxiliary_labels_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match=r"auxiliary must be null for an extract .*: weight 0.5 .* labels\.auxiliary"):
        run(tmp_path / "out", WEIGHT)


def test_training_rows_without_any_auxiliary_label_are_refused(run, tmp_path, tagged):
    rows = pq.read_table(tagged / DATA).to_pylist()
    other = tiny_extract(tmp_path / "other", n=20)
    write_rows(other, [row | {"auxiliary": None} for row in rows])
    (other / RECORD).write_text((tagged / RECORD).read_text())
    with pytest.raises(SourceError, match="train needs rows with an auxiliary label, had none on"):
        run(tmp_path / "out", WEIGHT, extract=other)
