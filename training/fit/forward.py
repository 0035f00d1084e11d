"""Forward passes over many tokenised rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.torch_engine import pad
from ptec_udf.model.network import PtecNetwork

Forward = Callable[[list[Any]], torch.Tensor]
"""From the inputs of rows to a tensor with a row for each."""


def pad_inputs(inputs: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad token ids, or hidden states, to the longest row; return them with the mask that ``pad`` returns."""
    if not isinstance(inputs[0], torch.Tensor):
        return pad(inputs, 0)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in inputs], batch_first=True)
    return pad_sequence([row.float() for row in inputs], batch_first=True), mask


def feature_function(network: PtecNetwork, bfloat16: bool) -> Forward:
    """Return a function from inputs to features, in float32; for their shape see ``PtecNetwork.features``."""
    device = network.device

    def forward(inputs: list[Any]) -> torch.Tensor:
        padded, mask = pad_inputs(inputs)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return network.features(padded.to(device), mask.to(device))

    return forward


@torch.inference_mode()
def forward_batches(forward: Forward, inputs: Sequence[Any], batch_tokens: int) -> np.ndarray:
    """Apply a function to rows in length-sorted batches; the result has the rows' order."""
    parts: dict[int, np.ndarray] = {}
    for batch in length_sorted_batches([len(row) for row in inputs], batch_tokens):
        values = forward([inputs[at] for at in batch]).float().cpu().numpy()
        parts.update(zip(batch, values, strict=True))
    return np.stack([parts[at] for at in range(len(inputs))])
