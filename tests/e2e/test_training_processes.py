"""Training in several processes, really started: on this machine by torch, on two executors by Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest
import torch

from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.model.artifact import Artifact, load_artifact
from tests.e2e.training_process import broken_in_the_second, killed_after_an_epoch, refused_by_the_second
from tests.processes import ROOT, TIMEOUT_S
from tests.tiny import tiny_backbone, tiny_extract
from tests.unit.trainings import QUICK
from training.config import TrainConfig
from training.processes.together import run_together
from training.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("together")
    tiny_extract(made / "extract")
    tiny_backbone(made, "bert")
    return made


def settings(folder: Path, out: str, *more: str) -> list[str]:
    places = (f"extract={folder / 'extract'}", f"out={folder / out}", f"backbone={tiny_backbone(folder, 'bert')}")
    return [*places, *QUICK, "stopping.epochs=2", *more]


def config(folder: Path, out: str, *more: str) -> TrainConfig:
    return load_config(TrainConfig, None, settings(folder, out, *more))


@pytest.fixture(scope="module")
def alone(folder: Path) -> Artifact:
    """The model of one process."""
    train(config(folder, "alone"))
    return load_artifact(folder / "alone")


def assert_the_same_but_for_rounding(found: Artifact, expected: Artifact) -> None:
    torch.testing.assert_close(found.prompt, expected.prompt, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.head_weight, expected.head_weight, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.head_bias, expected.head_bias, rtol=1e-4, atol=1e-4)
    for split, figures in expected.metrics["splits"].items():
        assert found.metrics["splits"][split]["overall"]["map"] == pytest.approx(figures["overall"]["map"], abs=1e-3)
    losses = [[epoch["loss"] for epoch in made.metrics["courses"]["choice"]["history"]] for made in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_two_processes_make_the_model_of_one(folder: Path, alone: Artifact, capfd: pytest.CaptureFixture[str]) -> None:
    result = train(config(folder, "two", "processes=2"))
    printed = capfd.readouterr()
    made = load_artifact(folder / "two")
    assert result["model_id"] == made.model_id
    assert_the_same_but_for_rounding(made, alone)
    assert printed.err.count("epoch 2 of 2: loss") == 1
    assert printed.out == ""
    assert not list(folder.glob(".two*"))


def test_two_processes_share_what_is_below_a_prompt(folder: Path) -> None:
    form = (f"backbone={tiny_backbone(folder, 'mpnet')}", "prompt.upper_layers=1")
    train(config(folder, "upper-alone", *form))
    train(config(folder, "upper-two", *form, "processes=2"))
    assert_the_same_but_for_rounding(load_artifact(folder / "upper-two"), load_artifact(folder / "upper-alone"))


def test_death_of_one_ends_all_and_one_alone_goes_on(
    folder: Path, alone: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingError, match="process 1 of 2 ended by SIGKILL; give the same command again"):
        run_together(killed_after_an_epoch, config(folder, "cut", "processes=2"), ("dev", "test"), None)
    train(config(folder, "cut"))
    assert "training resumes after epoch 1" in capfd.readouterr().err
    assert_the_same_but_for_rounding(load_artifact(folder / "cut"), alone)


def test_what_one_process_refuses_all_refuse(folder: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        run_together(refused_by_the_second, config(folder, "none", "processes=2"))
    assert refused.value.errors == ["one fault", "and another"]


def test_unexpected_error_of_one_ends_all_and_shows_its_place(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError, match="process 2 of 2 ended by an error"):
        run_together(broken_in_the_second, config(folder, "none", "processes=2"))
    printed = capfd.readouterr().err
    assert "unexpected ValueError in process 2" in printed
    assert "in broken_in_the_second" in printed
    assert "a company's text" not in printed


@pytest.mark.long
def test_two_executors_make_the_model_of_one(folder: Path, alone: Artifact) -> None:
    submit = [str(Path(pyspark.__file__).parent / "bin" / "spark-submit"), "--master", "local-cluster[2,1,1024]"]
    command = [*submit, "--conf", "spark.ui.enabled=false", str(ROOT / "jobs" / "train.py"), "--json"]
    for setting in settings(folder, "executors", "processes=2", "processes_on=executors"):
        command += ["--set", setting]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    made = load_artifact(folder / "executors")
    # spark-submit sends a driver's standard error to standard output too; the result comes last.
    assert json.loads(done.stdout.strip().splitlines()[-1])["model_id"] == made.model_id
    assert_the_same_but_for_rounding(made, alone)
    assert done.stdout.count("epoch 2 of 2: loss") == 1
    assert not list(folder.glob(".executors*"))
