"""States of the frozen layers below a prompt or LoRA: equal in every epoch, so they are computed once and cached.

The file is memory-mapped, so it may be larger than memory. Values are rounded to 16 bits; dev is evaluated without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.torch_engine import pad
from ptec_udf.errors import TrainingError
from ptec_udf.log import progress
from ptec_udf.model import mpnet
from training.data.dataset import Rows
from training.fit.distributed import process_state
from training.fit.inputs import TrainingInputs
from training.packages import packages

_DTYPE = np.float16


def cache_lower_layers(inputs: TrainingInputs, rows: Rows, folder: Path) -> tuple[Rows, float]:
    """Replace token ids by the states of the layers below the adapted ones, if there are any.

    Args:
        inputs: of the training.
        rows: with token ids.
        folder: gets a file named by its content; an existing one is used.

    Returns:
        The rows, and the seconds that this took.

    Raises:
        TrainingError: if the disk has no space for the file.
    """
    if inputs.config.adapter.n_upper_layers is None:
        return rows, 0.0
    started = time.monotonic()
    file = folder / f"{_content_name(inputs, rows)}.f16"
    lengths = [len(ids) for ids in rows.inputs]
    shape = (sum(lengths), inputs.backbone.config.hidden_size)
    with process_state().main_process_first():  # the others wait, then find the file
        if not file.exists():
            _write(inputs, rows.inputs, file, shape)
    # torch warns of a read-only map, and mode "c" reserves as much memory as the file has.
    states = torch.from_numpy(np.memmap(file, _DTYPE, mode="r+", shape=shape))
    return replace(rows, inputs=list(states.split(lengths))), time.monotonic() - started


def _content_name(inputs: TrainingInputs, rows: Rows) -> str:
    """Hash what decides the content, rounding included."""
    config = inputs.config
    settings = [config.adapter.n_upper_layers, config.optimiser.micro_batch_tokens]
    facts = [inputs.content_hash, *settings, inputs.dtype, packages(), rows.inputs]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _write(inputs: TrainingInputs, ids: Sequence[list[int]], file: Path, shape: tuple[int, int]) -> None:
    """Compute all rows; the file appears whole."""
    partial = file.with_name(f"{file.name}.partial")
    _reserve(partial, shape)
    states = np.memmap(partial, _DTYPE, mode="r+", shape=shape)
    starts = np.cumsum([0, *(len(row) for row in ids)])
    with progress("frozen lower layers", len(ids)) as step_done:
        for batch in length_sorted_batches([*map(len, ids)], inputs.config.optimiser.micro_batch_tokens):
            for row, values in zip(batch, _states(inputs, [ids[row] for row in batch]), strict=True):
                states[starts[row] : starts[row + 1]] = values[: len(ids[row])]
            step_done(len(batch))
    states.flush()
    os.replace(partial, file)


@torch.inference_mode()
def _states(inputs: TrainingInputs, ids: list[list[int]]) -> np.ndarray:
    """Compute one batch, *Shape:* ``(batch, length, width)``."""
    n_upper, device = inputs.config.adapter.n_upper_layers, inputs.backbone.device
    assert n_upper is not None
    padded, mask = (part.to(device) for part in pad(ids, 0))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=inputs.bfloat16):
        return mpnet.below(inputs.backbone, padded, mask, n_upper).half().cpu().numpy()


def _reserve(partial: Path, shape: tuple[int, int]) -> None:
    """Reserve the space before hours of work."""
    n_bytes = shape[0] * shape[1] * np.dtype(_DTYPE).itemsize
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("wb") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, n_bytes)
        except OSError as error:
            partial.unlink()
            raise TrainingError(
                f"n_upper_layers needs {n_bytes / 1e9:.1f} GB in {str(partial.parent)!r} ({error.strerror}); free "
                "space, choose another out, or set it to null, which takes longer"
            ) from None
