"""Two gloo processes train the model that one process trains, except for rounding."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from ptec_udf.model.artifact import load_artifact
from tests.tiny import tiny_backbone
from tests.unit.trainings import QUICK

SCRIPT = """
import json, sys
from ptec_udf.config_file import read_values
from ptec_training.config import TrainConfig
from ptec_training.train import train
result = train(TrainConfig.model_validate(read_values(None, sys.argv[1:])[0]))
print(json.dumps(result))
"""
WITHOUT_DROPOUT = ("head_dropout=0", "token_dropout=0", "stopping.refit=true", "stopping.epochs=2")


@pytest.mark.long
def test_two_processes_train_the_model_of_one(run, tiny_folder, companies, tmp_path):
    family, setting = "mpnet", "prompt.n_upper_layers=1"  # with cached lower layers
    alone = run(tmp_path / "alone", setting, *WITHOUT_DROPOUT, family=family)
    script, out = tmp_path / "train.py", tmp_path / "together"
    script.write_text(SCRIPT)
    paths = (f"extract={companies}", f"out={out}", f"backbone={tiny_backbone(tiny_folder, family)}")
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
    options = ("--num_cpu_threads_per_process", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
    command = [sys.executable, *launcher, *options, script, *paths, *QUICK, setting, *WITHOUT_DROPOUT]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    together = load_artifact(out)
    assert [json.loads(line)["model_id"] for line in ended.stdout.splitlines()] == [together.model_id]
    torch.testing.assert_close(together.head["weight"], alone.head["weight"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(together.members[0].prompt, alone.members[0].prompt, rtol=1e-3, atol=1e-4)
    assert not list(tmp_path.glob(".*"))
