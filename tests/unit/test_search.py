"""``ptec search`` on made-up companies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError, TrainingError
from tests.tiny import tiny_backbone, tiny_extract
from tests.unit.trainings import stop_after
from training.search import SearchConfig, search

QUICK = (
    "recipe.max_tokens=32",
    "recipe.prompt.n_tokens=4",
    "recipe.dtype=float32",
    "recipe.stopping.epochs=2",
    "trials=3",
    "random_trials=2",
    "confirmed=1",
    "seeds=[1, 2]",
    "space={optimiser.head_lr: {low: 1.0e-6, high: .1, log: true}, head_dropout: {choices: [0.0, 0.3]}}",
)
Configure = Callable[..., SearchConfig]


@pytest.fixture(scope="module")
def configure(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Configure:
    """Return a configuration of a short search into a folder."""
    backbone = tiny_backbone(tiny_folder, "bert")
    extract = tiny_extract(tmp_path_factory.mktemp("extracts") / "few", n=120)

    def configure(out: Path, *settings: str) -> SearchConfig:
        first = [f"extract={extract}", f"out={out}", f"recipe.backbone={backbone}", *QUICK]
        return load_config(SearchConfig, None, [*first, *settings])

    return configure


@pytest.fixture(scope="module")
def whole(configure: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed search."""
    folder = tmp_path_factory.mktemp("searches") / "whole"
    search(configure(folder))
    return folder


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


class TestSearch:
    def test_writes_the_winner_for_train(self, configure, whole) -> None:
        found = search(configure(whole))  # all trials are there: nothing is trained
        trials = results_of(whole)["trials"]
        best = max(trials, key=lambda trial: trial["value"])
        assert (found["trials"], len(trials)) == (3, 3)
        assert (found["best"], found["value"]) == (best["settings"], pytest.approx(best["mean_of_seeds"], abs=1e-6))
        written = yaml.safe_load((whole / "best.yaml").read_text())["train"]
        assert written["optimiser"]["head_lr"] == found["best"]["optimiser.head_lr"]
        assert {file.name for file in whole.glob("*.png")} == {"history.png", "settings.png", "importance.png"}
        assert not (whole / "trial").exists()

    @pytest.mark.parametrize("epoch", [1, 2])
    def test_continues_after_a_kill(self, configure, whole, tmp_path, monkeypatch, epoch) -> None:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            stop_after(patched, epoch)
            search(configure(tmp_path / "killed"))
        search(configure(tmp_path / "killed"))
        assert results_of(tmp_path / "killed") == results_of(whole)

    def test_refuses_the_folder_of_another_search(self, configure, whole) -> None:
        for other in ("recipe.pooling=last", "random_trials=5", "seeds=[7, 8]"):
            with pytest.raises(ConfigError, match="must contain trials of the same extract, recipe, backbones"):
                search(configure(whole, other))

    def test_refuses_a_recipe_that_no_backbone_takes(self, configure, tmp_path) -> None:
        with pytest.raises(ConfigError, match=r"max_tokens \+ prompt.n_tokens must be at most"):
            search(configure(tmp_path / "out", "recipe.prompt.n_tokens=900"))

    def test_settings_that_fail_count_as_nothing(self, configure, tmp_path, capsys) -> None:
        space = "space={prompt.n_tokens: {choices: [4, 900]}}"
        search(configure(tmp_path / "out", space, "trials=4", "random_trials=4", "seeds=[1]"))
        trials = results_of(tmp_path / "out")["trials"]
        failed = [trial for trial in trials if trial["settings"]["prompt.n_tokens"] == 900]
        assert 0 < len(failed) < len(trials)
        assert {trial["value"] for trial in failed} == {0.0}
        assert capsys.readouterr().err.count("trial counted as 0") == len(failed)

    def test_without_any_good_trial_is_an_error(self, configure, tmp_path) -> None:
        space = "space={prompt.n_tokens: {choices: [900, 901]}}"
        with pytest.raises(TrainingError, match=r"no trial was worth more than 0: .*must be at most"):
            search(configure(tmp_path / "out", space, "trials=1"))


class TestSearchConfig:
    @pytest.mark.parametrize(
        ("setting", "error"),
        [
            (
                "space={optimiser.head_lr: {low: -1, high: 2}}",
                "optimiser.head_lr: input should be greater than 0",
            ),
            ("space={optimiser.head_lr: {low: 3, high: 2}}", "low must be below high, was: 3 and 2"),
            ("space={optimiser.head_lr: {low: 0, high: 2, log: true}}", "low must be above 0 on a logarithmic scale"),
            ("space={optimiser.head_lr: {low: 1}}", "low and high must be set, or choices in their place"),
            ("space={prompt.n_tokens: {low: 4, high: 9.5}}", "space.prompt.n_tokens: input should be a valid integer"),
            ("space={ensemble_size: {low: 1, high: 3}}", "space.ensemble_size: must not be searched, trials do not"),
            ("space={stopping.metric: {choices: [map, macro_f1]}}", "trials would not be measured alike"),
            ("space={lora.rank: {low: 2, high: 9}}", "must not be searched where recipe.lora is null"),
            ("recipe.prompt.kind=none", "must not be searched where no prompt is trained"),
            ("seeds=[1, 1]", "seeds must differ"),
        ],
    )
    def test_names_errors(self, configure, setting, error) -> None:
        space = "space={prompt.n_tokens: {low: 2, high: 9}}"
        with pytest.raises(ConfigError) as caught:
            configure(Path("out"), space, setting)
        assert error.lower() in "; ".join(caught.value.errors).lower()
