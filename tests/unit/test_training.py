"""Training on fictional companies, from the extract to the artifact."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ptec_training.data.dataset import read_split, read_splits
from ptec_training.data.folder import DATA, RECORD
from ptec_training.data.provenance import is_seen, seen_by
from ptec_training.evaluate.metrics import mean_average_precision
from ptec_training.locks import lock_folder
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.errors import ConfigError, TrainingError, UserError
from ptec_udf.model.artifact import ADAPTER, MANIFEST, Artifact
from tests.tiny import LABELS, TEMPLATE, write_rows
from tests.unit.trainings import CHANCE, weights_of

FORMS = {
    "deep": ("bert", "prompt.kind=deep"),
    "input": ("bert", "prompt.kind=input"),
    "decoder": ("llama", "prompt.kind=deep"),
    "last": ("bloom", "prompt.kind=input", "pooling=last"),
    "head": ("bert", "prompt.kind=none"),
    "lora": ("bert", "lora={rank: 4, lr: .01}"),
    "attention": ("bert", "pooling=label_attention"),
    "tfidf": ("bert", "tfidf={blend_weights: [0.5, 1.0]}"),
    "ensemble": ("bert", "ensemble_size=2"),
    "upper": ("mpnet", "prompt.n_upper_layers=1"),
    "upper lora": ("mpnet", "lora={rank: 2, lr: .01, target_modules: [q, v], n_upper_layers: 1}"),
}


def dev_map(made: Artifact, companies: Path) -> float:
    """Score dev as ``ptec score`` does."""
    rows = read_split(companies, "dev")
    logits = np.stack([text.logits for text in load_scorer(made).score(rows.texts)])
    return mean_average_precision(logits, rows.targets)


class TestLearning:
    @pytest.mark.parametrize("form", FORMS)
    def test_learns_and_scores_as_reported(self, run, tmp_path, companies, form):
        family, *settings = FORMS[form]
        made = run(
            tmp_path / "out", *settings, "optimiser.batch_size=8", "stopping.refit=true", family=family, epochs=4
        )
        losses = [epoch["loss"] for epoch in made.metrics["trainings"]["first-0"]["history"]]
        assert losses[-1] < losses[0] - 0.03
        assert set(made.metrics["splits"]) == {"validation", "dev"}
        assert made.metrics["splits"]["dev"]["overall"]["map"] > 1.3 * CHANCE
        assert dev_map(made, companies) == pytest.approx(made.metrics["splits"]["dev"]["overall"]["map"], abs=1e-5)
        assert [label.name for label in made.manifest.labels] == list(LABELS)
        assert not list(tmp_path.glob(".*"))

    def test_manifest_describes_the_model(self, run, tmp_path):
        manifest = run(tmp_path / "out", epochs=1).manifest
        assert (manifest.prompt.kind, manifest.prompt.n_tokens, manifest.prompt.attention) == ("deep", 4, "prefix")
        assert (manifest.template, manifest.pooling) == (TEMPLATE, "mean")
        assert (manifest.extract.source, manifest.extract.version) == ("crm.companies", 3)
        assert run(tmp_path / "input", "prompt.kind=input", epochs=1).manifest.prompt.attention == "full"

    def test_equal_seeds_give_equal_models(self, run, tmp_path):
        first, again, other = (run(tmp_path / name, f"seed={seed}") for name, seed in [("a", 1), ("b", 1), ("c", 2)])
        assert first.model_id == again.model_id
        assert weights_of(first) == weights_of(again)
        assert weights_of(other)[ADAPTER] != weights_of(first)[ADAPTER]

    def test_keeps_the_best_epoch(self, run, tmp_path):
        made = run(tmp_path / "out", "stopping.min_improvement=9", "stopping.patience=2", epochs=8)
        state = made.metrics["trainings"]["first-0"]
        assert (state["best_epoch"], state["epoch"]) == (1, 3)
        reported = made.metrics["splits"]["validation"]["overall"]["map"]
        assert reported == pytest.approx(state["history"][0]["map"], abs=1e-6)
        assert abs(reported - state["history"][-1]["map"]) > 1e-3

    def test_stops_when_it_diverges(self, run, tmp_path):
        rates = ("optimiser.prompt_lr=1.0e+30", "optimiser.head_lr=1.0e+30", "optimiser.batch_size=4")
        with pytest.raises(TrainingError, match="more than 10 steps had no finite gradient"):
            run(tmp_path / "out", *rates)
        assert not (tmp_path / "out").exists()


class TestSplits:
    @pytest.mark.parametrize("split", ["dev", "test"])
    def test_other_splits_decide_nothing(self, run, tmp_path, companies, split):
        other = shutil.copytree(companies, tmp_path / "other")
        rows = pq.read_table(companies / DATA).to_pylist()
        changed = [
            row | {"labels": ["energy"] if row["labels"] != ["energy"] else ["media"]} if row["split"] == split else row
            for row in rows
        ]
        write_rows(other, changed)
        expected, found = run(tmp_path / "a"), run(tmp_path / "b", extract=other)
        assert found.model_id == expected.model_id
        assert "test" not in found.metrics["splits"]

    def test_artifact_records_learned_rows(self, run, tmp_path, companies):
        made = run(tmp_path / "out", "max_rows=60", epochs=1)
        record = json.loads((companies / RECORD).read_text())
        splits = read_splits(companies, validation_share=0.15, max_rows=60, others=("dev",))
        for split, is_learned in [("train", True), ("validation", True), ("dev", False)]:
            assert (is_seen(seen_by(made), record, splits[split].keys, splits[split].texts) == is_learned).all()


class TestRefit:
    def test_on_validation_too_for_the_best_epochs(self, run, tmp_path):
        settings = ("stopping.min_improvement=.05", "stopping.patience=2")
        first = run(tmp_path / "first", *settings, epochs=6)
        refit = run(tmp_path / "refit", *settings, "stopping.refit=true", epochs=6)
        state = refit.metrics["trainings"]["refit-0"]
        assert state["epoch"] == state["best_epoch"] == first.metrics["trainings"]["first-0"]["best_epoch"]
        assert all("map" not in epoch for epoch in state["history"])
        n_validation = first.metrics["splits"]["validation"]["per_label"]["media"]["positives"]
        positives = [made.manifest.labels[LABELS.index("media")].training_positives for made in (first, refit)]
        assert positives[1] == positives[0] + n_validation

    def test_decisions_are_of_held_out_logits(self, run, tmp_path):
        first, refit = run(tmp_path / "a"), run(tmp_path / "b", "stopping.refit=true")
        assert refit.manifest.threshold_logit == first.manifest.threshold_logit
        assert {label.scale for label in refit.manifest.labels} == {label.scale for label in first.manifest.labels}
        overall = [made.metrics["splits"]["validation"]["overall"] for made in (first, refit)]
        assert overall[0] == overall[1]
        assert weights_of(first) != weights_of(refit)


class TestEnsemble:
    def test_members_are_the_trainings_of_consecutive_seeds(self, run, tmp_path):
        whole = run(tmp_path / "whole", "seed=5", "ensemble_size=2")
        for at, member in enumerate(whole.members):
            (alone,) = run(tmp_path / str(at), f"seed={5 + at}").members
            np.testing.assert_array_equal(member.weight, alone.weight)
            np.testing.assert_array_equal(member.prompt, alone.prompt)

    def test_needs_a_prompt(self, run, tmp_path):
        with pytest.raises(ConfigError, match="ensemble_size must be 1 without a prompt"):
            run(tmp_path / "out", "lora={rank: 4}", "ensemble_size=2")


class TestRefusals:
    def test_all_missing_paths_at_once(self, run, tmp_path):
        (tmp_path / "mine.txt").write_text("")
        with pytest.raises(UserError) as caught:
            run(tmp_path, "backbone=path:/none", extract=tmp_path / "none")
        assert len(caught.value.errors) == 3

    def test_all_settings_that_do_not_suit_at_once(self, run, tmp_path):
        with pytest.raises(ConfigError) as caught:
            run(tmp_path / "out", "prompt.n_upper_layers=1", "max_tokens=5000")
        starts = ["prompt.n_upper_layers", "max_tokens + prompt.n_tokens"]
        assert [error.split(" must be")[0] for error in caught.value.errors] == starts

    def test_lora_on_modules_that_are_not_linear(self, run, tmp_path):
        for modules in ("query, vlaue", "word_embeddings, query"):
            with pytest.raises(ConfigError, match=r"lora.target_modules must be linear .* for bert, .*query"):
                run(tmp_path / "out", f"lora={{target_modules: [{modules}]}}")

    @pytest.mark.parametrize(("kind", "n"), [("deep", 0), ("none", 1), ("input", 1)])
    def test_upper_layers_that_do_not_suit_the_kind(self, run, tmp_path, kind, n):
        with pytest.raises(ConfigError, match=rf"n_upper_layers must be null, .*, was: {n} for {kind}"):
            run(tmp_path / "out", f"prompt.kind={kind}", f"prompt.n_upper_layers={n}", family="mpnet")

    def test_folder_with_other_files(self, run, tmp_path):
        (tmp_path / "mine.txt").write_text("")
        (tmp_path / MANIFEST).touch()
        with pytest.raises(UserError, match=r"must be absent or empty, .* set overwrite to true"):
            run(tmp_path)
        with pytest.raises(UserError, match="it contains files of another kind"):
            run(tmp_path, "overwrite=true")

    def test_two_trainings_of_one_artifact(self, run, tmp_path):
        state = tmp_path / ".out.training"
        state.mkdir()
        with lock_folder(state), pytest.raises(ConfigError, match=r"'.*\.out\.training' must not be in use"):
            run(tmp_path / "out")

    def test_folder_that_cannot_be_written(self, run, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="out must be in a folder that can be written"):
            run(tmp_path / "file" / "out")
