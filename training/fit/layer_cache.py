"""What the layers below a prompt, or LoRA, make of texts: the same in every epoch, so it is computed once and kept.

It is in a file that is read as memory, so that it may be larger than memory is. Its values are rounded to 16 bits; dev
and test are measured without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.torch_engine import pad
from ptec_udf.errors import TrainingError
from ptec_udf.log import progress
from ptec_udf.model import mpnet
from training.data.dataset import Rows
from training.fit.inputs import Prepared
from training.fit.start import Start
from training.packages import packages

_DTYPE = np.float16


def below_prompt(prepared: Prepared, rows: Rows, folder: Path) -> tuple[Rows, float]:
    """Replace the rows' token ids by what the layers below the adapted ones make of them, where there are such layers.

    Args:
        prepared: the training, whose processes all take part and must see the folder.
        rows: with token ids.
        folder: gets a file named by its content; one that is there is used.

    Returns:
        The rows, and the seconds that making the file has taken, whenever that was.

    Raises:
        TrainingError: when the disk has no room for it.
    """
    start = prepared.start
    if start.config.adapter.upper_layers is None:
        return rows, 0.0
    file = folder / f"{start.group.agreed(_name(prepared, rows))}.f16"
    lengths = [len(ids) for ids in rows.inputs]
    shape = (sum(lengths), start.backbone.config.hidden_size)
    if start.group.agreed(not file.exists()):
        _make(start, rows.inputs, file, shape)
    # Neither "r", whose tensors torch warns of, nor "c", which asks for as much memory as the file has.
    states = torch.from_numpy(np.memmap(file, _DTYPE, mode="r+", shape=shape))
    seconds = float(_seconds_of(file).read_text(encoding="utf-8"))
    return replace(rows, inputs=list(states.split(lengths))), seconds


def _name(prepared: Prepared, rows: Rows) -> str:
    """Hash what decides the content, last digits included."""
    config, device = prepared.start.config, prepared.start.backbone.device.type
    facts: list[Any] = [prepared.content_hash, config.adapter.upper_layers, config.optimiser.micro_batch_tokens]
    facts += [prepared.start.bfloat16, device, packages(), rows.inputs]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _make(start: Start, ids: Sequence[list[int]], file: Path, shape: tuple[int, int]) -> None:
    """Let each process of the group compute its share of the rows; the file appears whole."""
    started, group = time.monotonic(), start.group
    partial = file.with_name(f".{file.name}.partial")  # a killed one is overwritten
    if fault := group.agreed(_reserve(partial, shape) if group.is_first else None):
        raise TrainingError(fault)
    n_bytes = np.dtype(_DTYPE).itemsize * shape[1]
    starts = np.cumsum([0, *(len(row) for row in ids)]) * n_bytes
    # Written through, neither mapped nor cached: machines that share a disk would put back whole pages, with what they
    # last saw of each other's rows.
    own = os.open(partial, os.O_WRONLY | os.O_DSYNC)
    with os.fdopen(own, "wb", buffering=0), progress("layers below the prompt", len(ids)) as done:
        for at, batch in enumerate(length_sorted_batches([*map(len, ids)], start.config.optimiser.micro_batch_tokens)):
            if at % group.size == group.rank:
                for row, values in zip(batch, _states(start, [ids[row] for row in batch]), strict=True):
                    os.pwrite(own, values[: len(ids[row])].tobytes(), starts[row])
            done(len(batch))
    group.gathered(0)  # all have written
    if group.is_first:
        _seconds_of(file).write_text(f"{time.monotonic() - started:.1f}\n", encoding="utf-8")
        os.replace(partial, file)
    group.gathered(0)  # it has its name


@torch.inference_mode()
def _states(start: Start, ids: list[list[int]]) -> np.ndarray:
    """Compute one batch, *Shape:* ``(batch, length, width)``."""
    n_upper, device = start.config.adapter.upper_layers, start.backbone.device
    assert n_upper is not None
    padded, mask = (part.to(device) for part in pad(ids, 0))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=start.bfloat16):
        return mpnet.below(start.backbone, padded, mask, n_upper).half().cpu().numpy()


def _reserve(partial: Path, shape: tuple[int, int]) -> str | None:
    """Take the whole room now, before hours of work; return what is wrong, if anything."""
    n_bytes = shape[0] * shape[1] * np.dtype(_DTYPE).itemsize
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("wb") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, n_bytes)
        except OSError as error:
            partial.unlink()
            return (
                f"upper_layers needs {n_bytes / 1e9:.1f} GB in {str(partial.parent)!r} ({error.strerror}); make room, "
                "choose another out, or set it to null, which takes longer"
            )
    return None


def _seconds_of(file: Path) -> Path:
    return file.with_suffix(".seconds")
