"""``ptec search`` on made-up companies."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml
from optuna.pruners import MedianPruner, NopPruner

from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError, TrainingError
from tests.tiny import tiny_backbone, tiny_extract
from training.config import TrainConfig
from training.fit.trainer import Trainer
from training.folders import alone
from training.search.config import SearchConfig
from training.search.run import _pruner, search
from training.train import train

SPACE = "{optimiser.head_lr: {low: 1.0e-6, high: .1, log: true}, head_init: {choices: [labels, random]}}"
QUICK = (
    "recipe.max_tokens=32",
    "recipe.prompt.n_tokens=4",
    "recipe.dtype=float32",
    "recipe.stopping.epochs=2",
    "trials=3",
    "random_trials=2",
    "confirmed=1",
    "seeds=[1, 2]",
    f"space={SPACE}",
)


@pytest.fixture(scope="module")
def configured(tiny_folder, tmp_path_factory):
    backbone = tiny_backbone(tiny_folder, "bert")
    extract = tiny_extract(tmp_path_factory.mktemp("extracts") / "few", n=120)

    def configured(out: Path, *settings: str) -> SearchConfig:
        first = [f"extract={extract}", f"out={out}", f"recipe.backbone={backbone}", *QUICK]
        return load_config(SearchConfig, None, [*first, *settings])

    return configured


@pytest.fixture
def config(configured, tmp_path):
    return lambda *settings: configured(tmp_path / "study", *settings)


@pytest.fixture(scope="module")
def whole(configured, tmp_path_factory):
    """The folder of an undisturbed search, pictures and all."""
    folder = tmp_path_factory.mktemp("searches") / "whole"
    search(configured(folder))
    return folder


@pytest.fixture
def draws_nothing(whole, monkeypatch):
    """Pictures take as long as all trials of a tiny search; those of searches like ``whole`` are its own again."""
    monkeypatch.setattr("training.search.results._draw", lambda *_: None)


def rows_of(folder):
    """The table of trials without the times."""
    rows = json.loads((folder / "results.json").read_text())["trials"]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_search_finds_the_better_settings_and_writes_what_train_takes(configured, whole):
    found = search(configured(whole))  # all of it is there
    rows = rows_of(whole)
    assert (found["trials"], len(rows)) == (3, 4)  # the best once more, with the other seed
    first = [row for row in rows if "confirms" not in row]
    best = max((row for row in first if not row["pruned"]), key=lambda row: row["value"])
    confirmed = [row for row in rows if "confirms" in row]
    assert best["trial"] in {row["confirms"] for row in confirmed}
    assert all(row["settings"] == rows[row["confirms"] - 1]["settings"] for row in confirmed)
    written = load_config(TrainConfig, whole / "best.yaml")
    assert written.optimiser.head_lr == found["best"]["optimiser.head_lr"]
    assert written.head_init == found["best"]["head_init"]
    assert written.max_tokens == 32
    assert {path.name for path in whole.glob("*.png")} == {
        "history.png",
        "settings.png",
        "importance.png",
    }


def test_trial_is_the_first_training_of_train(config, tmp_path):
    search(config("trials=1", "confirmed=1", "seeds=[1]"))
    (row,) = rows_of(tmp_path / "study")
    train(load_config(TrainConfig, tmp_path / "study" / "best.yaml", ["stopping.refit=false"]))
    metrics = json.loads((tmp_path / "study" / "artifact" / "metrics.json").read_text())
    assert metrics["courses"]["choice"]["best_value"] == row["value"]
    assert metrics["courses"]["choice"]["best_epoch"] == row["best_epoch"]
    assert metrics["learning"]["flop"] == row["flop"] > 0


@pytest.mark.usefixtures("draws_nothing")
@pytest.mark.parametrize("stops", [1, 4, 7])
def test_killed_search_ends_as_if_it_had_not_been(config, whole, tmp_path, monkeypatch, capsys, stops):
    """Killed after a number of epochs: within a trial, between two, and while the best are confirmed."""
    epoch, n_epochs = Trainer._epoch, 0

    def count(self, *rest):
        nonlocal n_epochs
        n_epochs += 1
        if n_epochs > stops:
            raise KeyboardInterrupt
        return epoch(self, *rest)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "_epoch", count)
        search(config())
    search(config())
    assert ("resumes after epoch" in capsys.readouterr().err) is (stops != 4)
    assert rows_of(tmp_path / "study") == rows_of(whole)
    written = [yaml.safe_load((study / "best.yaml").read_text()) for study in (tmp_path / "study", whole)]
    assert written[0] | {"out": ""} == written[1] | {"out": ""}


@pytest.mark.parametrize("recipe", ["recipe.prompt.kind=none", "recipe.lora={rank: 2}"])
def test_prompt_is_not_searched_where_none_is_trained(config, recipe):
    with pytest.raises(ConfigError, match=r"space\.prompt\.n_tokens: .*: no prompt is trained") as caught:
        config(recipe, "space={prompt.n_tokens: {low: 2, high: 9}, optimiser.prompt_lr: {low: .1, high: 1}}")
    assert "space.optimiser.prompt_lr: must not be searched" in str(caught.value)
    assert config("recipe.lora={}", "space={lora.rank: {low: 2, high: 9}}").recipe.lora


@pytest.mark.usefixtures("draws_nothing")
def test_finished_search_trains_nothing_and_may_go_on(config, tmp_path, monkeypatch):
    search(config("trials=2"))
    before = rows_of(tmp_path / "study")
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "fit", None)
        search(config("trials=2"))
    assert rows_of(tmp_path / "study") == before
    assert search(config("trials=3"))["trials"] == 3
    assert len(before) < len(rows_of(tmp_path / "study"))


def test_other_search_in_the_same_folder_is_refused(configured, whole, monkeypatch):
    for other in ("recipe.pooling=last", "random_trials=5", "seeds=[7, 8]", None):
        if not other:
            monkeypatch.setattr("training.search.results.packages", lambda: {"torch": "0.1"})
        with pytest.raises(ConfigError, match="must hold trials of the same extract, recipe, backbones, space, first"):
            search(configured(whole, *[other] if other else []))


def test_diverging_training_counts_as_nothing(config, tmp_path):
    space = "space={optimiser.prompt_lr: {choices: [1.0e+30, 1.0e+31]}}"
    wanted = config(space, "recipe.optimiser.batch_rows=4", "trials=1", "confirmed=1")
    with pytest.raises(TrainingError, match=r"no trial .* was worth more than 0; over .* had no finite grad"):
        search(wanted)
    assert not (Path(wanted.out) / "best.yaml").exists()


def test_a_study_that_another_search_writes_to_is_not_taken_for_damaged(config, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "study.db")) as study, alone(folder):
        study.execute("CREATE TABLE t (a)")
        study.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match="must not be in use"):
            search(config())


@pytest.mark.usefixtures("draws_nothing")
@pytest.mark.parametrize(("seeds", "counted"), [([0, 1], [0, 1]), ([0, 1, 2], [1, 2])])
def test_value_is_that_of_confirmations_where_there_are_several(config, tmp_path, seeds, counted):
    found = search(config("trials=1", "confirmed=1", f"seeds={seeds}"))
    values = [row["value"] for row in rows_of(tmp_path / "study")]
    assert len(values) == len(seeds)
    assert found["value"] == pytest.approx(np.mean([values[seed] for seed in counted]), abs=1e-5)


@pytest.mark.usefixtures("draws_nothing")
def test_other_seeds_take_the_place_of_the_earlier_ones(config, configured, tmp_path):
    search(config("trials=2", "confirmed=1", "seeds=[0, 1]"))
    later = search(config("trials=2", "confirmed=1", "seeds=[0, 2]"))
    assert later["value"] == search(configured(tmp_path / "anew", "trials=2", "confirmed=1", "seeds=[0, 2]"))["value"]


def test_trials_of_another_backbone_in_the_same_place_are_not_gone_on_with(config, tmp_path):
    place = tmp_path / "swapped"
    settings = (f"recipe.backbone=path:{place}", "trials=1", "confirmed=1", "seeds=[0]")
    shutil.copytree(tiny_backbone(tmp_path, "bert").removeprefix("path:"), place)
    search(config(*settings))
    shutil.rmtree(place)
    shutil.copytree(tiny_backbone(tmp_path, "mpnet").removeprefix("path:"), place)
    with pytest.raises(ConfigError, match="must hold trials of the same extract, recipe, backbones"):
        search(config(*settings, "recipe.prompt.kind=deep"))


def test_folder_of_something_else_or_a_damaged_study_is_refused(config, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "mine.txt").touch()
    with pytest.raises(ConfigError, match="must be absent, empty or hold a search"):
        search(config())
    (folder / "study.db").write_bytes(b"SQLite format 3" + b"x" * 5000)
    with pytest.raises(ConfigError, match="cannot be read; restore it, or remove it to begin the search again"):
        search(config())


@pytest.mark.usefixtures("draws_nothing")
@pytest.mark.parametrize(
    ("space", "is_refused"),
    [
        ("{prompt.n_tokens: {choices: [4, 900]}}", lambda settings: settings["prompt.n_tokens"] == 900),
        (
            "{loss.pos_weight_power: {choices: [0.0, 1.0]}, loss.focus_negatives: {choices: [0.0, 2.0]}}",
            lambda settings: settings["loss.pos_weight_power"] and settings["loss.focus_negatives"],
        ),
    ],
    ids=["by the backbone", "by each other"],
)
def test_settings_that_do_not_go_together_count_as_nothing(config, tmp_path, capsys, space, is_refused):
    settings = ("recipe.loss.pos_weight_power=0", "recipe.stopping.epochs=1", "trials=5", "random_trials=5")
    search(config(f"space={space}", *settings, "seeds=[1]"))
    rows = rows_of(tmp_path / "study")
    refused = [row for row in rows if is_refused(row["settings"])]
    assert 0 < len(refused) < len(rows)
    assert all((row["value"] == row["flop"] == 0) == (row in refused) for row in rows)
    assert capsys.readouterr().err.count("counted as 0: ") == len(refused)


def test_recipe_that_does_not_suit_the_backbone_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match=r"max_tokens \+ prompt.n_tokens must be at most"):
        search(config("recipe.prompt.n_tokens=900"))


def test_backbone_that_is_missing_is_refused_before_a_trial_chooses_it(config, tmp_path):
    space = "space={backbone: {choices: ['path:/none/a', 'path:/none/b']}}"
    with pytest.raises(ConfigError) as caught:
        search(config(space))
    assert [fault[: fault.index(":") + 1] for fault in caught.value.errors] == ["space.backbone:"] * 2
    assert not (tmp_path / "study" / "study.db").exists()


def test_trials_of_different_length_are_not_pruned(config):
    assert isinstance(_pruner(config()), MedianPruner)
    assert isinstance(_pruner(config("space={stopping.epochs: {low: 1, high: 2}}")), NopPruner)


def test_layers_below_a_prompt_count_for_the_trial_that_needed_them_first(config, tiny_folder, tmp_path):
    upper = (f"recipe.backbone={tiny_backbone(tiny_folder, 'mpnet')}", "recipe.prompt.upper_layers=1")
    search(config(*upper, "recipe.stopping.epochs=1", "confirmed=1"))
    first, *others = (row["flop"] for row in rows_of(tmp_path / "study"))
    assert len(set(others)) == 1
    assert others[0] < first < 2 * others[0]


def test_first_trials_vary_the_first_setting_alone(config, tmp_path):
    search(config("first_alone=1", "trials=2"))
    rows = [row for row in rows_of(tmp_path / "study") if "confirms" not in row]
    assert [set(row["settings"]) for row in rows] == [{"optimiser.head_lr"}, {"optimiser.head_lr", "head_init"}]


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("space={optimiser.haed_lr: {low: 1, high: 2}}", "space.optimiser.haed_lr: extra inputs are not permitted"),
        ("space={optimiser.head_lr: {low: -1, high: 2}}", "space.optimiser.head_lr: input should be greater than 0"),
        ("space={head_init: {choices: [labels, mean]}}", "space.head_init: input should be 'labels' or 'random'"),
        ("space={optimiser.head_lr: {low: 3, high: 2}}", "low must be below high, was: 3 and 2"),
        ("space={optimiser.head_lr: {low: 0, high: 2, log: true}}", "low must be over 0 on a logarithmic scale"),
        ("space={prompt.n_tokens: {low: 4, high: 9.0}}", "space.prompt.n_tokens: input should be a valid integer"),
        ("space={optimiser.head_lr: {low: 1}}", "low and high must be set, or choices in their place"),
        ("space={members: {low: 1, high: 3}}", "space.members: must not be searched, trials do not depend on it"),
        (
            "space={terms.words: {low: 1, high: 2}}",
            "space.terms.words: must not be searched, trials do not",
        ),
        ("space={stopping.metric: {choices: [map, macro_f1]}}", "space.stopping.metric: must not be searched, trials"),
        ("space={lora.rank: {low: 2, high: 9}}", "space.lora.rank: must not be searched where recipe.lora is null"),
        (
            "space={optimiser.attention_lr: {low: .001, high: .1}}",
            "space.optimiser.attention_lr: must not be searched without pooling: label_attention",
        ),
        (
            "space={layers: {choices: [null, [-1]]}}",
            "space.layers.choices: must hold text, numbers, true, false or null",
        ),
        ("seeds=[1, 1]", "seeds must differ"),
        ("recipe.stopping.epochs=0", "recipe.stopping.epochs: must be greater than or equal to 1"),
    ],
)
def test_faults_of_a_configuration_are_named(config, setting, fault):
    with pytest.raises(ConfigError, match=fault.replace(".", r"\.")):
        config(setting)
