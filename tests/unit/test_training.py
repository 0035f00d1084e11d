"""Training on made-up companies, from the extract to the artifact."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ptec_udf.engine.scorer import Scorer
from ptec_udf.errors import ConfigError, TrainingError, UserError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import ADAPTER, MANIFEST, seal
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import LoraSpec
from tests.tiny import LABELS, TEMPLATE, tiny_backbone, write_rows
from tests.unit.trainings import CHANCE, weights_of
from training.config import LoraSettings
from training.data.folder import DATA
from training.evaluate.metrics import mean_average_precision
from training.fit import lora
from training.folders import alone

FORMS = [("bert", "deep", "mean"), ("bert", "input", "mean"), ("llama", "deep", "mean"), ("bloom", "input", "last")]


@pytest.mark.parametrize(("family", "kind", "pooling"), FORMS, ids=["-".join(form) for form in FORMS])
def test_loss_falls_and_metrics_beat_chance(run, tmp_path, family, kind, pooling):
    settings = (f"prompt.kind={kind}", f"pooling={pooling}", "optimiser.batch_rows=8")
    made = run(tmp_path / "out", *settings, family=family, epochs=6)
    losses = [epoch["loss"] for epoch in made.metrics["courses"]["choice"]["history"]]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.1
    for split in ("validation", "dev", "test"):
        assert made.metrics["splits"][split]["overall"]["map"] > 1.6 * CHANCE
    manifest = made.manifest
    assert (manifest.prompt.kind, manifest.prompt.n_tokens, manifest.pooling) == (kind, 4, pooling)
    assert manifest.prompt.attention == ("full" if (family, kind) == ("bert", "input") else "prefix")
    assert [label.name for label in manifest.labels] == list(LABELS)
    positives = np.array([label.training_positives for label in manifest.labels])
    told = [made.metrics["log_pos_weights"][name] for name in LABELS]
    np.testing.assert_allclose(told, 0.5 * np.log(positives.max() / positives), rtol=1e-5, atol=1e-7)
    assert manifest.template == TEMPLATE
    assert (manifest.extract.source, manifest.extract.version) == ("crm.companies", 3)
    assert not list(tmp_path.glob(".*"))


def dev_map(made, companies):
    """Score dev as ``ptec score`` does."""
    model, tokenizer = resolve(made.manifest.backbone.name).load()
    rows = [row for row in pq.read_table(companies / DATA).to_pylist() if row["split"] == "dev"]
    results = Scorer.from_artifact(made, model, tokenizer).score([row["text"] for row in rows])
    logits = np.stack([result.logits for result in results])
    targets = np.array([[name in row["labels"] for name in LABELS] for row in rows])
    return mean_average_precision(logits, targets)


def test_artifact_scores_texts_as_training_measured_them(run, tmp_path, companies):
    made = run(tmp_path / "out")
    assert dev_map(made, companies) == pytest.approx(made.metrics["splits"]["dev"]["overall"]["map"], abs=1e-6)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_lora_learns_and_its_artifact_scores_as_measured(run, tmp_path, companies, family):
    made = run(tmp_path / "out", "lora={rank: 4, lr: .01}", "optimiser.batch_rows=8", family=family, epochs=6)
    assert made.metrics["splits"]["validation"]["overall"]["map"] > 1.6 * CHANCE
    assert made.manifest.prompt is made.prompt is None
    assert (made.manifest.lora.rank, made.manifest.lora.alpha) == (4, 16)
    assert dev_map(made, companies) == pytest.approx(made.metrics["splits"]["dev"]["overall"]["map"], abs=1e-6)
    changed = [value for name, value in made.adapter.items() if "lora_B" in name]
    assert all(value.abs().max() > 0 for value in changed)  # they start at zero


def test_two_trainings_do_not_write_one_artifact(run, tmp_path):
    state = tmp_path / ".out.training"
    state.mkdir()
    with alone(state), pytest.raises(ConfigError, match=r"out must not be in use, '.*\.out\.training' is, by another"):
        run(tmp_path / "out")
    with pytest.raises(ConfigError, match="layers must be different ones"):
        run(tmp_path / "out", "layers=[9]")
    assert not list(tmp_path.iterdir())


def test_second_lora_in_a_backbone_is_as_fresh_as_the_first(load_tiny, tiny_folder):
    backbone, _ = resolve(tiny_backbone(tiny_folder, "bert")).load()
    lora.put_into(backbone, LoraSettings(rank=4), seed=3)
    fresh = {name: value.clone() for name, value in lora.weights(backbone).items()}
    assert all((value == 0).all() == ("lora_B" in name) for name, value in fresh.items())
    for value in lora.weights(backbone).values():
        value += 1
    lora.put_into(backbone, LoraSettings(rank=4), seed=3)
    for name, value in lora.weights(backbone).items():
        assert torch.equal(value, fresh[name])


def test_alpha_makes_another_model(run, tmp_path):
    made = run(tmp_path / "out", "lora={rank: 4}", epochs=1)
    changed = made.manifest.model_copy(update={"lora": LoraSpec(rank=4, alpha=17)})
    files = {name: data for name, data in made.files.items() if name != MANIFEST}
    assert seal(changed, files)[0].model_id != made.model_id


def test_backbone_with_added_lora_takes_no_other_model(run, tmp_path):
    made = run(tmp_path / "out", "lora={rank: 4}", epochs=1)
    loaded = resolve(made.manifest.backbone.name).load()
    Scorer.from_artifact(made, *loaded)
    with pytest.raises(ValueError, match="must be loaded anew"):
        Scorer.from_artifact(made, *loaded)


def test_lora_on_layers_that_cannot_have_it_is_refused(run, tmp_path):
    for layers in ("c", "query, vlaue", "word_embeddings, query", "dropout"):
        with pytest.raises(
            ConfigError, match=r"lora.layers must be linear .* for bert, whose linear layers are: .*query"
        ):
            run(tmp_path / "out", f"lora={{layers: [{layers}]}}")
    with pytest.raises(ConfigError, match=r"None for mpnet, whose linear layers are: .*\bq\b"):
        run(tmp_path / "out", "lora={}", family="mpnet")
    made = run(tmp_path / "out", "lora={layers: [q, v]}", family="mpnet")
    assert len(made.adapter) == 8  # two matrices for each of two layers in each of two blocks


def test_equal_seeds_give_equal_models_and_another_seed_another(run, tmp_path):
    first, again, other = (run(tmp_path / name, f"seed={seed}") for name, seed in [("a", 1), ("b", 1), ("c", 2)])
    assert first.model_id == again.model_id
    assert weights_of(first) == weights_of(again)
    assert other.model_id != first.model_id
    assert weights_of(other)[ADAPTER] != weights_of(first)[ADAPTER]


def test_best_epoch_is_the_one_that_is_kept(run, tmp_path):
    made = run(tmp_path / "out", "stopping.min_improvement=9", "stopping.patience=2", epochs=8)
    course = made.metrics["courses"]["choice"]
    assert (course["best_epoch"], course["epoch"]) == (1, 3)
    kept = made.metrics["splits"]["validation"]["overall"]["map"]
    assert kept == pytest.approx(course["best_value"], abs=1e-6)
    assert kept == pytest.approx(course["history"][0]["map"], abs=1e-6)
    assert abs(kept - course["history"][-1]["map"]) > 1e-3


@pytest.mark.parametrize("split", ["dev", "test"])
def test_rows_of_dev_and_test_decide_nothing(run, tmp_path, companies, split):
    other = shutil.copytree(companies, tmp_path / "other")
    rows = pq.read_table(companies / DATA).to_pylist()
    for row in rows:
        if row["split"] == split:
            row["labels"] = ["energy"] if row["labels"] != ["energy"] else ["media"]
    write_rows(other, rows)
    expected, found = run(tmp_path / "a"), run(tmp_path / "b", extract=other)
    assert found.metrics["splits"][split] != expected.metrics["splits"][split]
    assert found.model_id == expected.model_id


def test_rows_of_validation_do_decide(run, tmp_path, companies):
    """The test above can fail: the same change to train and validation gives another model."""
    other = shutil.copytree(companies, tmp_path / "other")
    rows = pq.read_table(companies / DATA).to_pylist()
    next(row for row in rows if row["split"] == "train")["labels"] = []
    write_rows(other, rows)
    assert run(tmp_path / "a", extract=other).model_id != run(tmp_path / "b").model_id


@pytest.mark.parametrize(
    ("batch_rows", "rule"),
    [(4, "over 10 steps had no finite gradient; lower the rates"), (200, "logits must be finite")],
)
def test_training_that_diverges_is_ended(run, tmp_path, batch_rows, rule):
    settings = ("optimiser.prompt_lr=1e30", "optimiser.head_lr=1e30", "optimiser.schedule=linear", "optimiser.warmup=0")
    with pytest.raises(TrainingError, match=rule):
        run(tmp_path / "out", *settings, f"optimiser.batch_rows={batch_rows}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["deep", "input"])
def test_backbone_may_compute_in_bfloat16(run, tmp_path, kind):
    made = run(tmp_path / "out", f"prompt.kind={kind}", "dtype=bfloat16")
    assert str(made.prompt.dtype) == str(made.head_weight.dtype) == "torch.float32"
    assert np.isfinite([epoch["loss"] for epoch in made.metrics["courses"]["choice"]["history"]]).all()
    assert made.metrics["splits"]["dev"]["overall"]["map"] > CHANCE


@pytest.mark.parametrize("schedule", ["onecycle", "exponential", "linear"])
@pytest.mark.parametrize(("warmup", "batch_rows"), [(0, 64), (0.3, 1000), (0.9, 64)])
def test_schedules_take_any_warmup_and_number_of_steps(run, tmp_path, schedule, warmup, batch_rows):
    settings = (f"optimiser.schedule={schedule}", f"optimiser.warmup={warmup}", f"optimiser.batch_rows={batch_rows}")
    assert run(tmp_path / "out", *settings, epochs=1).metrics["courses"]["choice"]["epoch"] == 1


def test_input_prompt_on_mpnet(run, tmp_path):
    assert run(tmp_path / "out", "prompt.kind=input", family="mpnet").manifest.prompt.attention == "full"


@pytest.mark.parametrize(("max_tokens", "fits"), [(92, True), (93, False)])
def test_text_and_prompt_must_fit_into_the_positions(run, tmp_path, max_tokens, fits):
    if fits:
        assert run(tmp_path / "out", f"max_tokens={max_tokens}", epochs=1).manifest.max_tokens == 92
        return
    with pytest.raises(ConfigError, match=r"must be at most 96, .*, was: 93 \+ 4"):
        run(tmp_path / "out", f"max_tokens={max_tokens}")


def test_backbone_without_positions_takes_any_length(run, tmp_path):
    assert run(tmp_path / "out", "max_tokens=500", family="bloom", epochs=1).manifest.max_tokens == 500


def test_folder_in_use_is_refused_before_anything_is_read(run, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    for settings, rule in [((), "must be absent or empty"), (("overwrite=true",), "it holds no artifact")]:
        with pytest.raises(UserError, match=rule):
            run(tmp_path, *settings, extract=tmp_path / "none")
    (tmp_path / MANIFEST).touch()  # many programs have a file of this name
    with pytest.raises(UserError, match="it holds other files than an artifact's"):
        run(tmp_path, "overwrite=true", extract=tmp_path / "none")


def test_what_is_not_there_is_all_told_at_once(run, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    settings = ("backbone=path:/none", f"start_from={tmp_path / 'none'}")
    with pytest.raises(UserError) as caught:
        run(tmp_path, *settings, extract=tmp_path / "none")
    assert len(caught.value.errors) == 4


def test_out_may_be_a_link_and_no_mount(run, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    first = run(tmp_path / "link", epochs=1)
    second = run(tmp_path / "link", "overwrite=true", "seed=1", epochs=1)
    assert first.model_id != second.model_id == load_artifact(tmp_path / "real").model_id
    assert (tmp_path / "link").is_symlink()
    assert sorted(place.name for place in tmp_path.iterdir()) == ["link", "real"]
    monkeypatch.setattr("os.path.ismount", lambda place: str(place) == str(tmp_path / "disk"))
    with pytest.raises(ConfigError, match="is where a disk is mounted"):
        run(tmp_path / "disk", epochs=1)


def test_start_is_not_what_is_replaced(run, tmp_path):
    run(tmp_path / "out", epochs=1)
    with pytest.raises(UserError, match="start_from must not be what out replaces"):
        run(tmp_path / "out", f"start_from={tmp_path / 'out'}", "overwrite=true", epochs=1)


def test_earlier_artifact_is_replaced_where_told(run, tmp_path):
    first = run(tmp_path / "out", "seed=1", epochs=1)
    assert run(tmp_path / "out", "seed=2", "overwrite=true", epochs=1).model_id != first.model_id


def test_out_that_cannot_be_written_is_refused_at_once(run, tmp_path, companies):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="out must be in a folder that can be written"):
        run(tmp_path / "file" / "out")


def test_missing_extract_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="run ptec extract"):
        run(tmp_path / "out", extract=tmp_path / "none")


def test_settings_that_do_not_suit_backbone_or_extract_are_all_told_at_once(run, tmp_path):
    settings = ("prompt.upper_layers=1", "max_tokens=5000", "auxiliary={weight: 1}")
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "out", *settings, family="bert")
    assert [fault.split(" must be")[0] for fault in caught.value.errors] == [
        "auxiliary",
        "prompt.upper_layers",
        "max_tokens + prompt.n_tokens",
    ]
