"""Where a task computes, and in which arithmetic."""

from __future__ import annotations

from typing import Literal

import torch
from pyspark import TaskContext

from ptec_udf.errors import PtecError

Dtype = Literal["float32", "bfloat16"]

BATCH_TOKENS = 1024
"""Positions of a batch on a processor, where more is no faster, and slower where several tasks share its caches."""

GPU_BATCH_TOKENS = 2048
"""Positions of a batch on a GPU where free memory is not known, as where several tasks share it and measure at once."""

_MOST_BATCH_TOKENS = 131_072
_SHARE_OF_FREE = 0.5  # what a pass of other lengths needs differs


def has_bfloat16(device_type: str) -> bool:
    """Tell whether ``cpu`` or ``cuda`` computes in bfloat16 faster than in float32 on this machine."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported()
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def resolve_dtype(wanted: Literal["auto", "float32", "bfloat16"], *, on_gpu: bool) -> Dtype:
    """Say what ``auto`` is; the driver decides it for all tasks, or hosts would round differently.

    Args:
        wanted: as configured.
        on_gpu: whether Spark gives each task a GPU.
    """
    if wanted != "auto":
        return wanted
    return "bfloat16" if on_gpu or has_bfloat16("cpu") else "float32"


def task_device() -> torch.device:
    """Return the GPU that Spark gave to the running task, or the processor.

    Raises:
        PtecError: when torch does not see that GPU.
    """
    context = TaskContext.get()
    gpu = context.resources().get("gpu") if context else None
    if gpu is None:
        return torch.device("cpu")
    address = gpu.addresses[0]
    if not address.isdecimal() or int(address) >= torch.cuda.device_count():
        raise PtecError(
            f"Spark gave a task GPU {address}, and torch sees {torch.cuda.device_count()} by number; install a torch "
            "that knows the GPU on the executors, or take spark.task.resource.gpu.amount away"
        )
    return torch.device("cuda", int(address))


def check_alive(device: torch.device) -> None:
    """Tell an error of a text from that of a GPU that this process cannot use any more.

    Raises:
        PtecError: in the latter case, which ends the worker, so that Spark tries the task in a new one.
    """
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        raise PtecError(f"{device} cannot be used any more in this process: {type(error).__name__}") from error


@torch.inference_mode()
def gpu_batch_tokens(network: torch.nn.Module, max_tokens: int, device: torch.device) -> int:
    """Measure what a forward pass needs on a GPU, and return how many positions fit into its free memory."""
    ids = torch.full((max(1, GPU_BATCH_TOKENS // max_tokens), max_tokens), 5, device=device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        network(ids, torch.ones_like(ids))
    except torch.OutOfMemoryError:
        return GPU_BATCH_TOKENS  # is halved until it fits
    needed = torch.cuda.max_memory_allocated(device) - before
    free, _ = torch.cuda.mem_get_info(device)
    return fitting_batch_tokens(free, needed / ids.numel())


def fitting_batch_tokens(free_bytes: int, bytes_per_position: float) -> int:
    """Return the positions of a batch that takes its share of free memory."""
    fitting = int(free_bytes * _SHARE_OF_FREE / bytes_per_position)
    return max(1, min(fitting, _MOST_BATCH_TOKENS))
