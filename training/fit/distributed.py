"""Data-parallel training by accelerate: each process computes the gradient of a share of every step's rows.

Start the processes with ``accelerate launch --num_processes N -m ptec_jobs.train ...``, torchrun or pyspark's
TorchDistributor. They must share the folder of ``out``. Without a launcher there is one process, which sends nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce

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


def from_main_process(value: T) -> T:
    """Return the main process's value in all processes: CPUs of different kinds round differently."""
    return broadcast_object_list([value])[0]


def sum_gradients(loss: float, parameters: Sequence[torch.nn.Parameter]) -> float:
    """Add up the gradients of all processes in place, and return the sum of their losses."""
    if process_state().num_processes == 1:
        return loss
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    sums = reduce([*gradients, gradients[0].new_tensor([loss])], "sum")
    for parameter, gradient in zip(parameters, sums[:-1], strict=True):
        parameter.grad = gradient
    return sums[-1].item()
