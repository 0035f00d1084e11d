"""Device and dtype of a task; a fake device replaces a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyspark
import pytest
import torch

from ptec_udf.config import EngineConfig
from ptec_udf.engine import udf
from ptec_udf.engine.device import has_bfloat16, task_device
from ptec_udf.engine.torch_engine import check_gpu, load_scorer
from ptec_udf.engine.udf import engine_settings
from ptec_udf.errors import PtecError
from ptec_udf.model.artifact import load_artifact
from tests.tiny import tiny_artifact, tiny_companies, tiny_text

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.fixture
def run_as(monkeypatch):
    """Run as a task to which Spark assigned these resources, on a machine with two GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def run_as(**addresses):
        resources = {name: SimpleNamespace(addresses=[address]) for name, address in addresses.items()}
        context = SimpleNamespace(resources=lambda: resources)
        monkeypatch.setattr(pyspark.TaskContext, "get", lambda: context)

    return run_as


def session(**settings):
    """A session with these settings, that answers the question about bfloat16 in a task with yes."""
    frame = SimpleNamespace(mapInPandas=lambda ask, schema: SimpleNamespace(first=lambda: [True]))
    conf = SimpleNamespace(get=lambda name, default: settings.get(name, default))
    return SimpleNamespace(conf=conf, range=lambda n: frame)


class TestTaskDevice:
    def test_is_the_cpu_without_a_gpu(self, run_as):
        assert task_device("auto") == "cpu"
        run_as(fpga="0")
        assert task_device("auto") == "cpu"

    def test_is_the_gpu_that_spark_assigned(self, run_as):
        run_as(gpu="1")
        assert [task_device(device) for device in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]

    def test_is_the_first_gpu_where_spark_assigns_none(self, run_as):
        assert task_device("cuda") == "cuda:0"

    def test_that_torch_does_not_see_is_refused(self, run_as):
        run_as(gpu="7")
        with pytest.raises(PtecError, match="needs GPU 7, torch finds 2 GPUs by number; install"):
            task_device("auto")


class TestDtype:
    @pytest.mark.parametrize(("flags", "found"), [("avx2 avx512_bf16", True), ("amx_bf16", True), ("avx2", False)])
    def test_bfloat16_needs_a_cpu_that_has_it(self, monkeypatch, flags, found):
        monkeypatch.setattr(Path, "read_text", lambda path, **_: f"flags : fpu {flags} vme")
        assert has_bfloat16("cpu") is found

    def test_auto_asks_the_driver_s_cpu_or_a_task_s_gpu(self, monkeypatch):
        monkeypatch.setattr(udf, "has_bfloat16", lambda device: False)
        with_gpu = {"spark.task.resource.gpu.amount": "1"}
        for settings, engine, expected in (
            ({}, EngineConfig(), "float32"),
            (with_gpu, EngineConfig(), "bfloat16"),
            (with_gpu, EngineConfig(device="cpu"), "float32"),
            ({}, EngineConfig(device="cuda"), "bfloat16"),
        ):
            assert engine_settings(session(**settings), engine).dtype == expected


class TestGpu:
    def test_that_is_lost_ends_the_task(self, monkeypatch):
        def lose(device):
            raise RuntimeError("CUDA error: device-side assert triggered")

        monkeypatch.setattr(torch.cuda, "synchronize", lose)
        check_gpu(torch.device("cpu"))
        with pytest.raises(PtecError, match="cuda:1 cannot be used any more in this process"):
            check_gpu(torch.device("cuda", 1))

    @ON_GPU
    def test_scores_as_the_cpu_does(self, tmp_path):
        artifact = load_artifact(tiny_artifact(tmp_path))
        texts = [tiny_text(company) for company in tiny_companies(100)]
        on_gpu, on_cpu = (load_scorer(artifact, device=device) for device in ("cuda:0", "cpu"))
        logits = [np.stack([result.logits for result in scorer.score(texts)]) for scorer in (on_gpu, on_cpu)]
        np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-3)
        assert on_gpu.batch_tokens > on_cpu.batch_tokens
