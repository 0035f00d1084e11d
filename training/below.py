"""What the layers below a prompt make of texts: the same in every epoch, so it is computed once and kept in a file.

The file is read as memory, so that it may be larger than that. Its values are rounded to 16 bits; dev and test are
measured without it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.scorer import pad
from ptec_udf.model import mpnet
from ptec_udf.progress import progress
from training.data import Rows
from training.start import Start

_DTYPE = np.float16


def below_prompt(start: Start, content_hash: str, rows: Rows, folder: Path) -> Rows:
    """Replace the rows' token ids by what the layers below the prompt make of them, where there are such layers.

    Args:
        start: where trainings start; its first process makes the file, and all of them read it.
        content_hash: of the backbone.
        rows: with token ids.
        folder: gets a file named by its content; one that is there is used.
    """
    n_prompted = start.config.prompt.upper_layers
    if n_prompted is None or start.config.lora is not None:
        return rows
    facts = f"{content_hash} {n_prompted} {start.bfloat16} {rows.inputs}"
    file = folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:16]}.f16"
    if start.group.is_first and not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(start, n_prompted, rows.inputs, file)
    start.group.gathered(0)  # the file is there
    states = torch.from_numpy(np.memmap(file, _DTYPE, mode="c")).view(-1, start.backbone.config.hidden_size)
    return replace(rows, inputs=list(states.split([len(ids) for ids in rows.inputs])))


@torch.inference_mode()
def _write(start: Start, n_prompted: int, ids: Sequence[list[int]], file: Path) -> None:
    """Compute all rows; the file appears whole."""
    lengths = [len(row) for row in ids]
    starts = np.cumsum([0, *lengths])
    partial = file.with_name(f"{file.name}.partial")
    states = np.memmap(partial, _DTYPE, mode="w+", shape=(int(starts[-1]), start.backbone.config.hidden_size))
    device = start.backbone.device
    with progress("layers below the prompt", len(ids)) as done:
        for batch in length_sorted_batches(lengths, start.config.optimiser.micro_batch_tokens):
            padded, mask = (part.to(device) for part in pad([ids[row] for row in batch], 0))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=start.bfloat16):
                made = mpnet.below(start.backbone, padded, mask, n_prompted).half().cpu().numpy()
            for row, of_row in zip(batch, made, strict=True):
                states[starts[row] : starts[row + 1]] = of_row[: lengths[row]]
            done(len(batch))
    states.flush()
    os.replace(partial, file)
