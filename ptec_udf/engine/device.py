"""The device and dtype of a task."""

from __future__ import annotations

from pathlib import Path

from ptec_udf.errors import PtecError

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last one on Arm


def has_bfloat16(device_type: str) -> bool:
    """Return whether ``cpu`` or ``cuda`` computes in bfloat16 on this machine, without emulation."""
    if device_type == "cuda":
        import torch

        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(words)


def has_gpu() -> bool:
    """Return whether torch is installed and finds a GPU."""
    try:
        import torch
    except ImportError:  # with the engine openvino
        return False
    return torch.cuda.is_available()


def task_device(device: str) -> str:
    """Return ``cpu``, or the GPU that Spark assigned to the running task, such as ``cuda:1``."""
    if device == "cpu":
        return "cpu"
    from pyspark import TaskContext

    context = TaskContext.get()
    gpu = context.resources().get("gpu") if context else None
    if gpu is None and device == "auto":
        return "cpu"
    import torch

    address = gpu.addresses[0] if gpu else "0"  # in local mode
    if not address.isdecimal() or int(address) >= torch.cuda.device_count():
        raise PtecError(
            f"the task needs GPU {address}, torch finds {torch.cuda.device_count()} GPUs by number; install a torch "
            "build for this GPU on the executors, or set engine.device: cpu"
        )
    return f"cuda:{address}"
