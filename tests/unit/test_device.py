"""Which arithmetic and device a task takes; what needs a GPU is skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptec_udf.engine import device
from ptec_udf.engine.device import check_alive, fitting_batch_tokens, has_bfloat16, resolve_dtype, task_device
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.errors import PtecError
from ptec_udf.model.artifact import load_artifact
from tests.tiny import tiny_artifact, tiny_companies, tiny_text

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.fixture
def task(monkeypatch):
    """Run as a task to which Spark gave these resources."""

    def run_as(**addresses):
        resources = {name: type("Information", (), {"addresses": [of]}) for name, of in addresses.items()}
        context = type("Context", (), {"resources": lambda _: resources})()
        monkeypatch.setattr(device.TaskContext, "get", lambda: context)

    return run_as


@pytest.mark.parametrize(("processor", "on_gpu", "auto"), [(1, 0, "bfloat16"), (0, 0, "float32"), (0, 1, "bfloat16")])
def test_auto_is_what_computes_faster(monkeypatch, processor, on_gpu, auto):
    monkeypatch.setattr(device, "has_bfloat16", lambda _: bool(processor))
    assert resolve_dtype("auto", on_gpu=bool(on_gpu)) == auto
    assert [resolve_dtype(wanted, on_gpu=bool(on_gpu)) for wanted in ("float32", "bfloat16")] == ["float32", "bfloat16"]


@pytest.mark.parametrize(("ability", "has"), [("avx512_bf16", True), ("amx_bf16", True), ("avx2", False)])
def test_bfloat16_needs_a_processor_that_multiplies_in_it(monkeypatch, ability, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {ability: True})
    assert has_bfloat16("cpu") is has


def test_outside_a_task_and_without_a_gpu_the_processor_computes(task):
    assert task_device() == torch.device("cpu")
    task(fpga="0")
    assert task_device() == torch.device("cpu")


def test_gpu_that_torch_does_not_see_is_refused(task):
    task(gpu="7")
    with pytest.raises(PtecError, match=r"GPU 7, and torch sees \d+ by number; install"):
        task_device()


def test_a_gpu_that_is_lost_is_no_fault_of_a_text(monkeypatch):
    synchronised = []
    monkeypatch.setattr(torch.cuda, "synchronize", synchronised.append)
    check_alive(torch.device("cpu"))
    check_alive(torch.device("cuda", 1))
    assert synchronised == [torch.device("cuda", 1)]

    def lost(device):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    with pytest.raises(PtecError, match="cuda:1 cannot be used any more in this process"):
        check_alive(torch.device("cuda", 1))


def test_batch_takes_half_of_what_is_free_and_has_an_end():
    assert fitting_batch_tokens(1_000_000, 10.0) == 50_000
    assert fitting_batch_tokens(10**12, 10.0) == 131_072
    assert fitting_batch_tokens(1, 10.0) == 1


@ON_GPU
def test_gpu_scores_as_the_processor_does(tmp_path, task):
    task(gpu="0")
    artifact = load_artifact(tiny_artifact(tmp_path))
    texts = [tiny_text(company) for company in tiny_companies(100)]
    on_gpu, on_cpu = (load_scorer(artifact, device=of) for of in (task_device(), None))
    logits = [np.stack([one.logits for one in scorer.score(texts)]) for scorer in (on_gpu, on_cpu)]
    np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-3)
    assert on_gpu.batch_tokens > on_cpu.batch_tokens
