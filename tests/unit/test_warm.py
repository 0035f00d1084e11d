"""A training that starts from an earlier model's weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load

from ptec_udf.errors import ArtifactError, ConfigError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import CHOICE
from tests.tiny import LABELS, tiny_extract, write_rows
from tests.unit.trainings import stop_after
from training.data.folder import DATA

FORMS = {"prompt": (), "lora": ("lora={rank: 4, lr: .01}",)}
# So small that weights stay where they were put.
STILL = ("optimiser.prompt_lr=1e-12", "optimiser.head_lr=1e-12", "optimiser.averaging=0")


@pytest.mark.parametrize("form", FORMS)
def test_training_starts_where_the_earlier_one_ended(run, tmp_path, form):
    settings = (*FORMS[form], "head_dropout=0", "token_dropout=0")
    earlier = run(tmp_path / "earlier", *settings, epochs=4)
    still = ("lora.lr=1e-12", *STILL) if form == "lora" else STILL
    later = run(tmp_path / "later", *settings, *still, f"start_from={tmp_path / 'earlier'}", epochs=1)
    for name, value in later.adapter.items():
        torch.testing.assert_close(value, earlier.adapter[name])
    torch.testing.assert_close(later.head_weight, earlier.head_weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(later.head_bias, earlier.head_bias, rtol=1e-4, atol=1e-4)
    assert later.metrics["started_from"] == earlier.model_id
    assert later.metrics["splits"]["validation"]["overall"]["map"] == pytest.approx(
        earlier.metrics["splits"]["validation"]["overall"]["map"], abs=1e-3
    )


def test_training_starts_from_weights_that_have_not_seen_validation(run, tmp_path):
    alone = run(tmp_path / "alone")
    refitted = run(tmp_path / "refitted", "stopping.refit=true")
    choice = load(refitted.files[CHOICE])
    assert torch.equal(choice["prompt_embeddings"], alone.prompt)
    assert torch.equal(choice["head.weight"], alone.head_weight)
    from_alone, from_refitted = (
        run(tmp_path / f"from-{name}", f"start_from={tmp_path / name}") for name in ("alone", "refitted")
    )
    assert from_alone.model_id == from_refitted.model_id
    assert CHOICE not in alone.files


def test_labels_may_come_and_go(run, tmp_path, companies):
    earlier = run(tmp_path / "earlier", epochs=4)
    fewer = tiny_extract(tmp_path / "fewer")
    renamed = {"biotech": "life science"}
    rows = pq.read_table(fewer / DATA).to_pylist()
    record = (fewer / "extract.json").read_text().replace('"biotech"', '"life science"')
    (fewer / "extract.json").write_text(record)
    write_rows(fewer, [row | {"labels": [renamed.get(name, name) for name in row["labels"]]} for row in rows])
    settings = (*STILL, "head_init=random", f"start_from={tmp_path / 'earlier'}")
    later = run(tmp_path / "later", *settings, epochs=1, extract=fewer)
    kept = [at for at, name in enumerate(LABELS) if name not in renamed]
    torch.testing.assert_close(later.head_weight[kept], earlier.head_weight[kept], rtol=1e-3, atol=1e-4)
    new = LABELS.index("biotech")
    assert [label.name for label in later.manifest.labels][new] == "life science"
    assert np.linalg.norm(later.head_weight[new]) < 0.3 * np.linalg.norm(earlier.head_weight[new])


def test_rows_that_the_earlier_model_learned_from_are_not_measured(run, tmp_path, capsys):
    run(tmp_path / "earlier", epochs=1)
    later = tiny_extract(tmp_path / "later")
    rows = pq.read_table(later / DATA).to_pylist()
    n_dev = sum(row["split"] == "dev" for row in rows)
    moved = [at for at, row in enumerate(rows) if row["split"] == "train"][:7]
    write_rows(later, [row | {"split": "dev"} if at in moved else row for at, row in enumerate(rows)])
    settings = (*STILL, f"start_from={tmp_path / 'earlier'}")
    made = run(tmp_path / "made", *settings, epochs=1, extract=later)
    assert made.metrics["splits"]["dev"]["overall"]["n_rows"] == n_dev
    assert "rows of dev that the model to start from has learned from are not measured: 7" in capsys.readouterr().err


def test_models_that_differ_are_refused_with_all_differences(run, tmp_path):
    run(tmp_path / "earlier", epochs=1)
    settings = ("prompt.kind=input", "pooling=last", "prompt.n_tokens=3", "stopping.validation_share=.3")
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "later", *settings, f"start_from={tmp_path / 'earlier'}", family="llama")
    named = [fault.split(" must be")[0] for fault in caught.value.errors]
    assert named == ["backbone", "pooling", "prompt.kind", "prompt.n_tokens", "stopping.validation_share"]
    with pytest.raises(ConfigError, match=r"lora.rank must be that of the model to start from, None, was: 4"):
        run(tmp_path / "later", "lora={rank: 4}", f"start_from={tmp_path / 'earlier'}")


def test_another_template_of_the_same_table_is_refused(run, tmp_path, companies, capsys):
    """It would part rows otherwise, so that the earlier model may have learned from those that are validation."""
    made = run(tmp_path / "earlier", epochs=1)
    record = json.loads((companies / "extract.json").read_text())
    other = shutil.copytree(companies, tmp_path / "other")
    replaced, another = {"source_id": "replaced"}, {"source_id": "another", "name": "another"}
    for of_record, refused in (({}, True), (replaced, True), (another, False)):
        changed = record | {"template": "{about} {name}"} | of_record
        (other / "extract.json").write_text(json.dumps(changed))
        settings = {"extract": other, "epochs": 1}
        if refused:
            with pytest.raises(ConfigError, match="template of the extract must be that of the model to start from"):
                run(tmp_path / "later", f"start_from={tmp_path / 'earlier'}", **settings)
        else:
            later = run(tmp_path / "later", f"start_from={tmp_path / 'earlier'}", **settings)
            assert later.metrics["started_from"] == made.model_id
            assert "warning: the extract has another template than the model to start from" in capsys.readouterr().err


def test_lora_on_other_layers_is_refused(run, tmp_path):
    run(tmp_path / "earlier", "lora={rank: 4, layers: [query]}", epochs=1)
    with pytest.raises(
        ConfigError, match=r"lora\.layers and lora\.upper_layers must be those of the model .* 4 matrices"
    ):
        run(tmp_path / "later", "lora={rank: 4}", f"start_from={tmp_path / 'earlier'}")


def test_lost_weights_of_the_first_training_are_named(run, tmp_path):
    run(tmp_path / "made", "stopping.refit=true", epochs=1)
    (tmp_path / "made" / CHOICE).unlink()
    with pytest.raises(ArtifactError, match=r"choice\.safetensors: file of the artifact is missing"):
        load_artifact(tmp_path / "made")


def test_another_model_to_start_from_is_another_training(run, tmp_path, monkeypatch, capsys):
    """What was killed does not resume with another model in the same folder."""
    start = f"start_from={tmp_path / 'earlier'}"
    first = run(tmp_path / "earlier", epochs=1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, epoch=1)
        run(tmp_path / "later", start)
    shutil.rmtree(tmp_path / "earlier")
    second = run(tmp_path / "earlier", "seed=7", epochs=1)
    made = run(tmp_path / "later", start)
    assert "resumes" not in capsys.readouterr().err
    assert first.model_id != second.model_id == made.metrics["started_from"]
