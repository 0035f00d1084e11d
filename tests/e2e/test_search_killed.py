"""Searches and benchmarks that are killed from outside and go on end with the tables of undisturbed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ptec_udf.config_file import load_config
from tests.processes import kill_when
from tests.site import write_site
from tests.tiny import tiny_backbone, tiny_extract
from training.benchmark.config import BenchmarkConfig
from training.benchmark.run import benchmark
from training.search import SearchConfig, search


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("killed")
    tiny_extract(made / "extract", n=120)
    return made


@pytest.fixture(scope="module")
def recipe(folder: Path) -> str:
    """Settings of a training, without braces."""
    short = "max_tokens: 32, dtype: float32, prompt: {n_tokens: 4}, stopping: {epochs: 30, patience: 30}"
    return f"{short}, backbone: '{tiny_backbone(folder, 'bert')}'"


def command(name: str, settings: list[str], folder: Path) -> tuple[str, ...]:
    overrides = (word for setting in settings for word in ("--set", f"{name}.{setting}"))
    return (name, "--config", str(write_site(folder)), *overrides)


def without_seconds(values: Any) -> Any:
    """Leave out times, which differ from run to run."""
    if isinstance(values, dict):
        return {name: without_seconds(value) for name, value in values.items() if "seconds" not in name}
    return [without_seconds(value) for value in values] if isinstance(values, list) else values


def test_killed_search_ends_with_the_same_table(folder: Path, recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    space = "space={optimiser.head_lr: {low: 1.0e-4, high: .1, log: true}}"
    short = ["trials=2", "random_trials=2", "confirmed=1", "seeds=[1]"]
    settings = [f"extract={folder / 'extract'}", f"out={folder / 'killed'}", f"recipe={{{recipe}}}", space, *short]
    kill_when(
        command("search", settings, folder), lambda: any((folder / "killed" / "trials").glob("*/state.json")), folder
    )
    assert not (folder / "killed" / "results.json").exists()
    found = search(load_config(SearchConfig, None, settings))
    assert "training resumes after epoch" in capsys.readouterr().err
    expected = search(load_config(SearchConfig, None, [*settings, f"out={folder / 'whole'}"]))
    assert (found["best"], found["value"]) == (expected["best"], expected["value"])
    tables = [json.loads((folder / out / "results.json").read_text(encoding="utf-8")) for out in ("killed", "whole")]
    assert without_seconds(tables[0]) == without_seconds(tables[1])
    assert len(tables[0]["trials"]) == 2


@pytest.mark.long
def test_killed_benchmark_ends_with_the_same_table(
    folder: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ["methods.tfidf={method: tfidf}", f"methods.ptec={{method: ptec, {recipe}}}", "reference=ptec"]
    settings = [f"extract={folder / 'extract'}", f"out={folder / 'halted'}", *methods, "seeds=[1]", "resamples=100"]
    states = folder / "halted" / "dev" / "models" / ".shared"
    kill_when(command("benchmark", settings, folder), lambda: any(states.glob("*/choice/state.json")), folder)
    assert (folder / "halted" / "dev" / "runs" / "tfidf-1").is_dir()
    assert not (folder / "halted" / "dev" / "runs" / "ptec-1").exists()
    found = benchmark(load_config(BenchmarkConfig, None, settings))
    assert "training resumes after epoch" in capsys.readouterr().err
    expected = benchmark(load_config(BenchmarkConfig, None, [*settings, f"out={folder / 'undisturbed'}"]))
    assert without_seconds(found) | {"table": ""} == without_seconds(expected) | {"table": ""}
    assert found["readings"] == {"ptec": 1, "tfidf": 1}
