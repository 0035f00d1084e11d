"""Training in several processes: what is dealt out adds up to what one process does. The processes are played here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from ptec_udf.config_file import load_config
from ptec_udf.engine.encoder import Encoder
from ptec_udf.errors import ConfigError
from tests.tiny import LABELS, tiny_network
from training.config import TrainConfig
from training.data.dataset import read_splits, tokenised
from training.fit.checkpoint import Checkpoint
from training.fit.trainer import Trainer, trained_parameters
from training.processes.group import ALONE, Group
from training.processes.together import _LOST_ANOTHER, _cause, _check_shared, _with_absolute_paths, run_together


@dataclass(frozen=True)
class Part(Group):
    """One of several processes that sends nothing: its gradients stay its own."""

    def add_up(self, loss, parameters):
        return loss


@pytest.fixture(scope="module")
def rows(companies, load_tiny):
    examples = read_splits(companies, validation_share=0.2)["train"]
    return tokenised(examples, Encoder(load_tiny("bert")[1], 32))


def gradients_of_step(load_tiny, rows, tmp_path, group, *settings):
    """Loss and gradients of one step on 17 rows, with everything dropped that training drops."""
    options = ["extract=x", f"out={tmp_path / 'out'}", "optimiser.clip_norm=1e9", "token_dropout=.3", *settings]
    network = tiny_network(*load_tiny("bert"), "deep").train()
    network.head.dropout.p = 0.4
    trainer = Trainer(
        network=network,
        rows=rows,
        validation=None,
        weights=torch.linspace(1, 3, len(LABELS)),
        config=load_config(TrainConfig, None, options),
        bfloat16=False,
        checkpoint=Checkpoint(tmp_path / "state", ""),
        epochs=1,
        group=group,
    )
    torch.manual_seed(5)
    nothing = torch.optim.SGD([parameter for _, parameter in trained_parameters(network)], lr=0.0)
    loss = trainer._step(list(range(17)), [len(ids) for ids in rows.inputs], nothing)
    return loss, {name: parameter.grad for name, parameter in trained_parameters(network)}


def waits(config, group):
    """Do nothing for long, as one process of several; a file tells that it has begun."""
    (Path(config.out) / str(os.getpid())).touch()
    time.sleep(600)


def is_alive(process: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end a process with its parent")
def test_processes_end_with_the_one_that_started_them(tmp_path):
    """Also where a script has started it in the background, which lets it ignore SIGINT."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from tests.unit.test_training_processes import run_together, waits\n"
        "from training.config import TrainConfig\n"
        f"if __name__ == '__main__': run_together(waits, TrainConfig(extract='x', out={str(tmp_path)!r}, processes=2))"
    )
    (tmp_path.parent / "starts.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen([sys.executable, str(tmp_path.parent / "starts.py")], env=environment) as parent:
        until(lambda: len(list(tmp_path.iterdir())) == 2)
        parent.kill()
    until(lambda: not any(is_alive(int(file.name)) for file in tmp_path.iterdir()))


def until(is_so, seconds=120):
    """Wait for something."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(("size", "budget"), [(2, 8192), (3, 120), (2, 1)])
def test_gradients_of_all_processes_add_up_to_those_of_one(load_tiny, rows, tmp_path, size, budget):
    """In one pass, in several, and with one row a pass, so that some processes have none."""
    budget = f"optimiser.micro_batch_tokens={budget}"
    loss, expected = gradients_of_step(load_tiny, rows, tmp_path, ALONE, budget)
    parts = [gradients_of_step(load_tiny, rows, tmp_path, Part(rank, size), budget) for rank in range(size)]
    assert sum(part for part, _ in parts) == pytest.approx(loss, rel=1e-6)
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-4
        torch.testing.assert_close(sum(part[name] for _, part in parts), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n_rows", "size"), [(16, 2), (5, 3), (1, 2), (0, 2), (7, 1)])
def test_every_row_is_dealt_to_one_process(n_rows, size):
    dealt = [Group(rank, size).deal(n_rows) for rank in range(size)]
    assert sorted(row for rows in dealt for row in rows) == list(range(n_rows))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_alone_everything_is_its_own(load_tiny):
    network = tiny_network(*load_tiny("bert"), "deep")
    assert ALONE.add_up(2.5, list(network.parameters())) == 2.5
    assert ALONE.agreed("mine") == "mine"
    assert ALONE.gathered(3) == [3]
    assert ALONE.over(lambda items: np.array(items), [4, 5]).tolist() == [4, 5]
    with pytest.raises(ConfigError, match="no such folder"):
        ALONE.all_or_none(fail)


def fail(*arguments):
    raise ConfigError(["no such folder", "nor that one"])


def config_of(*settings):
    return load_config(TrainConfig, None, ["extract=x", "out=y", *settings])


def test_more_processes_than_rows_of_a_step_are_refused():
    with pytest.raises(ConfigError, match=r"processes must be at most optimiser.batch_rows, 4, .*, was: 5"):
        config_of("processes=5", "optimiser.batch_rows=4")


def test_executors_need_a_session(monkeypatch):
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    with pytest.raises(ConfigError, match="processes_on must be local without a Spark session"):
        run_together(fail, config_of("processes=2", "processes_on=executors"))


def test_places_mean_the_same_in_processes_that_work_in_other_folders(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = ("extract=extracts/a", "out=artifacts/a", "backbone=path:models/a", "start_from=hdfs://b")
    found = _with_absolute_paths(load_config(TrainConfig, None, list(given)))
    assert (found.extract, found.out) == (f"{tmp_path}/extracts/a", f"{tmp_path}/artifacts/a")
    assert (found.backbone, found.start_from) == (f"path:{tmp_path}/models/a", "hdfs://b")
    named = _with_absolute_paths(load_config(TrainConfig, None, [*given, "backbone=pypi:a"]))
    assert named.backbone == "pypi:a"


def test_processes_that_do_not_see_the_place_of_the_artifact_are_refused(tmp_path):
    _check_shared(str(tmp_path), "artifacts/x")
    with pytest.raises(ConfigError, match=r"a folder that all processes see, was: 'artifacts/x'"):
        _check_shared(str(tmp_path / "elsewhere"), "artifacts/x")


@pytest.mark.parametrize(
    ("exit_codes", "cause"),
    [
        ([_LOST_ANOTHER, 1], (1, "ended by an error")),
        ([-9, _LOST_ANOTHER, _LOST_ANOTHER], (0, "ended by SIGKILL")),
        ([-15, -15, -9], (2, "ended by SIGKILL")),  # the others were stuck, and terminated
        ([_LOST_ANOTHER, -15], (1, "ended by SIGTERM")),
        ([0, _LOST_ANOTHER], (1, "ended by an error")),
    ],
)
def test_the_process_that_others_lost_is_named(exit_codes, cause):
    assert _cause(exit_codes) == cause
