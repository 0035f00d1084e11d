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

Forward = Callable[[list[Any]], torch.Tensor]  # from the inputs of rows


def pad_inputs(inputs: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad token ids, or hidden states, to the longest row; return them with the mask that ``pad`` gives."""
    if not isinstance(inputs[0], torch.Tensor):
        return pad(inputs, 0)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in inputs], batch_first=True)
    return pad_sequence([row.float() for row in inputs], batch_first=True), mask


def autocast_features(network: PtecNetwork, bfloat16: bool) -> Forward:
    """Return a function from inputs to features, in float32; for their shape see ``PtecNetwork.features``."""
    device = network.device

    def forward(inputs: list[Any]) -> torch.Tensor:
        padded, mask = pad_inputs(inputs)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return network.features(padded.to(device), mask.to(device))

    return forward


def features_of_some(network: PtecNetwork, bfloat16: bool, inputs: list[Any], some: Sequence[int]) -> torch.Tensor:
    """Return features of a batch in which only some rows are computed and the others are zero.

    So a head sees the whole batch, and what it drops from a row is what it would drop if all were there.

    Returns:
        As ``autocast_features``.
    """
    # Where there are none, one goes along that does not count: every parameter then has a gradient.
    computed = list(some) or [0]
    features = autocast_features(network, bfloat16)([inputs[at] for at in computed])
    whole = features.new_zeros(len(inputs), *features.shape[1:])
    whole[computed] = features
    return whole


def autocast_forward(network: PtecNetwork, bfloat16: bool) -> Forward:
    """Return a function from inputs to logits, *Shape:* ``(batch, n_labels)``; the head stays in float32."""
    features = autocast_features(network, bfloat16)
    return lambda inputs: network.head(features(inputs))


@torch.inference_mode()
def over_rows(forward: Forward, inputs: list[Any], batch_tokens: int) -> np.ndarray:
    """Apply a forward function to rows in length-sorted batches; the result has the rows' order."""
    parts: dict[int, np.ndarray] = {}
    for batch in length_sorted_batches([len(row) for row in inputs], batch_tokens):
        values = forward([inputs[at] for at in batch]).float().cpu().numpy()
        parts.update(zip(batch, values, strict=True))
    return np.stack([parts[at] for at in range(len(inputs))])


def attend_in_parts(backbone: Any, bfloat16: bool) -> None:
    """Let a backbone that is trained in bfloat16 on a CPU attend step by step, as ``mpnet`` does by itself.

    Backwards, torch's fused attention is several times as slow there as its parts are.
    """
    if bfloat16 and backbone.device.type == "cpu":
        backbone.set_attn_implementation("eager")
