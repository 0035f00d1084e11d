"""States of the frozen layers below a prompt or LoRA: equal in every epoch, so they are computed once and cached.

The file is memory-mapped, so it may be larger than memory. Values are rounded to 16 bits; dev is evaluated without it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ptec_training.data.dataset import Rows
from ptec_training.fit.distributed import process_state
from ptec_training.fit.inputs import TrainingInputs, package_versions
from ptec_udf.engine.encoder import length_sorted_batches
from ptec_udf.engine.torch_engine import pad
from ptec_udf.log import progress
from ptec_udf.model import mpnet


def cache_lower_layers(inputs: TrainingInputs, rows: Rows, folder: Path) -> Rows:
    """Replace token ids by the states of the frozen lower layers, if any, cached in a file in ``folder``."""
    config = inputs.config
    if config.adapter.n_upper_layers is None:
        return rows
    settings = [config.adapter.n_upper_layers, config.optimiser.micro_batch_tokens]
    facts = json.dumps([inputs.content_hash, *settings, inputs.dtype, package_versions(), rows.inputs])
    file = folder / f"{hashlib.sha256(facts.encode()).hexdigest()}.f16"
    with process_state().main_process_first():  # the others wait, then find the file
        if not file.exists():
            _write(inputs, rows.inputs, file)
    lengths, width = [len(ids) for ids in rows.inputs], inputs.backbone.config.hidden_size
    states = torch.from_file(str(file), shared=True, size=sum(lengths) * width, dtype=torch.float16)
    return replace(rows, inputs=list(states.view(-1, width).split(lengths)))


def _write(inputs: TrainingInputs, ids: list[list[int]], file: Path) -> None:
    """Compute all rows; the file appears whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial, bytes_per_token = file.with_suffix(".partial"), 2 * inputs.backbone.config.hidden_size
    lengths = [len(row) for row in ids]
    starts = np.cumsum([0, *lengths]) * bytes_per_token
    with partial.open("wb") as stream, progress("frozen lower layers", len(ids)) as step_done:
        for batch in length_sorted_batches(lengths, inputs.config.optimiser.micro_batch_tokens):
            for row, states in zip(batch, _states(inputs, [ids[row] for row in batch]), strict=True):
                stream.seek(starts[row])
                stream.write(states[: lengths[row]].tobytes())
            step_done(len(batch))
    os.replace(partial, file)


@torch.inference_mode()
def _states(inputs: TrainingInputs, ids: list[list[int]]) -> np.ndarray:
    """Compute one batch, *Shape:* ``(batch, length, width)``."""
    n_upper, device = inputs.config.adapter.n_upper_layers, inputs.backbone.device
    assert n_upper is not None
    padded, mask = (part.to(device) for part in pad(ids, 0))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=inputs.bfloat16):
        return mpnet.below(inputs.backbone, padded, mask, n_upper).half().cpu().numpy()
