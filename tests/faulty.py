"""Faults, planted in this process or in Spark's workers: scores that depend on the batch, and a text that kills."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ptec_udf.engine.encoder import Encoder
from ptec_udf.model import network

ROOT = Path(__file__).resolve().parents[1]


def pool_with_padding(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Average over padding too; arguments and result as of ``network.pool``."""
    return hidden.mean(dim=1)


def plant_pooling() -> None:
    """Let this process pool so."""
    network.pool = pool_with_padding


DEADLY = "zqxdeadly"
"""A word that kills the process that tokenises it, where ``plant_death`` was called."""


def plant_death() -> None:
    """Let this process die of a text, as if the tokeniser had crashed or memory had run out."""
    encode = Encoder.encode

    def die_or_encode(self: Encoder, texts: Sequence[str]) -> Any:
        if any(DEADLY in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(self, texts)

    Encoder.encode = die_or_encode  # type: ignore[method-assign]


STARTS_LEFT = "PTEC_TEST_DEATHS"
"""Environment variable: file that says how many more of the processes beside workers die when they start."""


def plant_early_deaths() -> None:
    """Let this process die before it has begun, as where there is no memory for it."""
    left = Path(os.environ[STARTS_LEFT])
    if "spawn_main" in " ".join(sys.orig_argv) and (n := int(left.read_text())):
        left.write_text(str(n - 1))
        os.kill(os.getpid(), signal.SIGKILL)


def python_path_with_fault(folder: Path, plant: str = plant_pooling.__name__) -> str:
    """Return a ``PYTHONPATH`` under which every interpreter that starts has a fault: ``sitecustomize`` plants it."""
    (folder / "sitecustomize.py").write_text(f"from tests.faulty import {plant}\n\n{plant}()\n", encoding="utf-8")
    return f"{folder}:{ROOT}"
