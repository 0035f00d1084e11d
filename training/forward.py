"""Forward passes over many tokenised rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.scorer import pad
from ptec_udf.model.network import PtecNetwork

Forward = Callable[[list[list[int]]], torch.Tensor]


def autocast_features(network: PtecNetwork, bfloat16: bool) -> Forward:
    """Return a function from token ids to features, *Shape:* ``(batch, width)``, in float32."""
    device = network.device

    def forward(ids: list[list[int]]) -> torch.Tensor:
        padded, mask = pad(ids, 0)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return network.features(padded.to(device), mask.to(device))

    return forward


def features_of_some(network: PtecNetwork, bfloat16: bool, ids: list[list[int]], some: Sequence[int]) -> torch.Tensor:
    """Return features of a batch in which only some rows are computed and the others are zero.

    So a head sees the whole batch, and what it drops from a row is what it would drop if all were there.

    Returns:
        *Shape:* ``(batch, width)``, in float32.
    """
    # Where there are none, one goes along that does not count: every parameter then has a gradient.
    computed = list(some) or [0]
    features = autocast_features(network, bfloat16)([ids[at] for at in computed])
    whole = features.new_zeros(len(ids), features.shape[1])
    whole[computed] = features
    return whole


def autocast_forward(network: PtecNetwork, bfloat16: bool) -> Forward:
    """Return a function from token ids to logits, *Shape:* ``(batch, n_labels)``; the head stays in float32."""
    features = autocast_features(network, bfloat16)
    return lambda ids: network.head(features(ids))


@torch.inference_mode()
def over_rows(forward: Forward, ids: list[list[int]], batch_tokens: int) -> np.ndarray:
    """Apply a forward function to rows in length-sorted batches; the result has the rows' order."""
    parts: dict[int, np.ndarray] = {}
    for batch in length_sorted_batches([len(row) for row in ids], batch_tokens):
        values = forward([ids[at] for at in batch]).float().cpu().numpy()
        parts.update(zip(batch, values, strict=True))
    return np.stack([parts[at] for at in range(len(ids))])


def has_bfloat16(device_type: str) -> bool:
    """Tell whether ``cpu`` or ``cuda`` computes in bfloat16 faster than in float32 on this machine."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported()
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
