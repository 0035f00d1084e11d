"""Data-parallel training by accelerate: each process computes the gradient of a share of every step's rows.

Start the processes with ``accelerate launch --num_processes N -m jobs.train ...``, torchrun or pyspark's
TorchDistributor. They must share the folder of ``out``. Without a launcher there is one process, which sends nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather_object, reduce

from ptec_udf.log import logger

T = TypeVar("T")

_TIMEOUT = timedelta(days=1)  # caching the lower layers of millions of texts takes hours


def process_state() -> PartialState:
    """Return accelerate's state of this process; it joins the others on the first call."""
    return PartialState(timeout=_TIMEOUT)


def silence_other_processes() -> None:
    """Discard standard output and progress of all processes but the main one."""
    if not process_state().is_main_process:
        logger.setLevel(logging.ERROR)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def own_share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share; neighbours go to different processes, so that lengths are even."""
    state = process_state()
    return items[state.process_index :: state.num_processes]


def gather_rows(own: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the rows of all processes in their order, from those of ``own_share``."""
    n_processes = process_state().num_processes
    if n_processes == 1:
        return own
    shares = gather_object([own])
    rows = np.empty((n_rows, *own.shape[1:]), own.dtype)
    for process, share in enumerate(shares):
        rows[process::n_processes] = share
    return rows


def sum_gradients(loss: float, parameters: Sequence[torch.nn.Parameter]) -> float:
    """Add up the gradients of all processes in place, and return the sum of their losses."""
    if process_state().num_processes == 1:
        return loss
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    sums = reduce([*gradients, gradients[0].new_tensor([loss])], "sum")
    for parameter, gradient in zip(parameters, sums[:-1], strict=True):
        parameter.grad = gradient
    return sums[-1].item()


def broadcast_parameters(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Copy the main process's values to all; CPUs of different kinds round differently."""
    if process_state().num_processes > 1:
        for parameter, value in zip(parameters, broadcast([one.data for one in parameters]), strict=True):
            parameter.data.copy_(value)


def check_equal(value: int) -> bool:
    """Tell whether all processes have the same value."""
    return len(set(gather_object([value]))) == 1
