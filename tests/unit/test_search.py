"""``ptec search`` on made-up companies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from ptec_training.search import SearchConfig, search
from ptec_udf.errors import ConfigError
from tests.site import load_config
from tests.tiny import tiny_backbone, tiny_extract
from tests.unit.trainings import stop_after

QUICK = (
    "recipe.max_tokens=32",
    "recipe.prompt.n_tokens=4",
    "recipe.dtype=float32",
    "recipe.stopping.epochs=2",
    "trials=3",
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


def trials_of(folder: Path) -> list[tuple[dict[str, Any], float]]:
    """Settings and value of each complete trial in the folder's only study."""
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/study.db")
    return [(trial.params, trial.value) for trial in study.trials if trial.state.name == "COMPLETE"]


class TestSearch:
    def test_writes_the_best_for_train(self, configure, whole) -> None:
        found = search(configure(whole))  # all trials are there: nothing is trained
        trials = trials_of(whole)
        assert found["trials"] == len(trials) == 3
        assert (found["best"], found["value"]) == max(trials, key=lambda trial: trial[1])
        written = yaml.safe_load((whole / "best.yaml").read_text())["train"]
        assert written["optimiser"]["head_lr"] == found["best"]["optimiser.head_lr"]
        assert sorted(path.name for path in whole.iterdir()) == [".lock", "best.yaml", "study.db"]

    @pytest.mark.parametrize("epoch", [1, 2])
    def test_continues_after_a_kill(self, configure, whole, tmp_path, monkeypatch, epoch) -> None:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            stop_after(patched, epoch)
            search(configure(tmp_path / "killed"))
        search(configure(tmp_path / "killed"))
        assert trials_of(tmp_path / "killed") == trials_of(whole)

    def test_another_recipe_is_another_study(self, configure, tmp_path) -> None:
        found = [search(configure(tmp_path / "out", "trials=1", f"seed={seed}")) for seed in (1, 2, 1)]
        assert found[0]["best"] == found[2]["best"] != found[1]["best"]
        assert [one["trials"] for one in found] == [1, 1, 1]

    def test_refuses_a_recipe_that_no_backbone_takes(self, configure, tmp_path) -> None:
        with pytest.raises(ConfigError, match=r"max_tokens \+ prompt.n_tokens must be at most"):
            search(configure(tmp_path / "out", "recipe.prompt.n_tokens=900"))

    def test_settings_that_fail_count_as_nothing(self, configure, tmp_path, capsys) -> None:
        search(configure(tmp_path / "out", "space={prompt.n_tokens: {choices: [4, 900]}}", "trials=4"))
        values = {params["prompt.n_tokens"]: value for params, value in trials_of(tmp_path / "out")}
        assert values[900] == 0.0 < values[4]
        assert "trial counted as 0: max_tokens + prompt.n_tokens must be" in capsys.readouterr().err


class TestSearchConfig:
    @pytest.mark.parametrize(
        ("setting", "error"),
        [
            ("space={optimiser.head_lr: {low: 3, high: 2}}", "low must be below high, was: 3 and 2"),
            ("space={optimiser.head_lr: {low: 0, high: 2, log: true}}", "low must be above 0 on a logarithmic scale"),
            ("space={optimiser.head_lr: {low: 1}}", "low and high must be set, or choices in their place"),
            ("space={prompt.n_tokens: {low: 4, high: 9.5}}", "space.prompt.n_tokens: "),
            ("space={ensemble_size: {low: 1, high: 3}}", "space.ensemble_size: must not be searched, trials do not"),
            ("space={stopping.metric: {choices: [map, macro_f1]}}", "trials would not be measured alike"),
            ("space={lora.rank: {low: 2, high: 9}}", "must not be searched where recipe.lora is null"),
            ("recipe.prompt.kind=none", "must not be searched where no prompt is trained"),
        ],
    )
    def test_names_errors(self, configure, setting, error) -> None:
        space = "space={prompt.n_tokens: {low: 2, high: 9}}"
        with pytest.raises(ConfigError) as caught:
            configure(Path("out"), space, setting)
        assert error.lower() in "; ".join(caught.value.errors).lower()
