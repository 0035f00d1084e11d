"""Faults planted in this process or in Spark's workers: batch-dependent scores, and a text that kills its worker."""

from __future__ import annotations

import os
import signal
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


def python_path_with_fault(folder: Path, plant: str = plant_pooling.__name__) -> str:
    """Return a ``PYTHONPATH`` under which every interpreter that starts has a fault: ``sitecustomize`` plants it."""
    (folder / "sitecustomize.py").write_text(f"from tests.faulty import {plant}\n\n{plant}()\n", encoding="utf-8")
    return f"{folder}:{ROOT}"
