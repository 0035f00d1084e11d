"""A fault that makes scores depend on the batch, planted in this process or in Spark's workers."""

from __future__ import annotations

from pathlib import Path

import torch

from ptec_udf.model import network

ROOT = Path(__file__).resolve().parents[1]


def pooled_with_padding(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Average over padding too; arguments and result as of ``network.pooled``."""
    return hidden.mean(dim=1)


def plant() -> None:
    """Let this process pool so."""
    network.pooled = pooled_with_padding


def python_path_with_fault(folder: Path) -> str:
    """Return a ``PYTHONPATH`` under which every interpreter that starts has the fault: ``sitecustomize`` plants it."""
    (folder / "sitecustomize.py").write_text("from tests.faulty import plant\n\nplant()\n", encoding="utf-8")
    return f"{folder}:{ROOT}"
