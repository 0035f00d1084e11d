"""Parts of backbones that are computed in one step when texts are scored in bfloat16 on a processor.

What follows a linear layer (GELU; SiLU and a gate's product) is done by oneDNN while the layer's results are still at
hand, and before they are rounded: torch has that step for compiled models, and it is called here as those call it. The
weights stay those of the host's file. Where torch lacks the step, the backbone's own code runs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.activations import GELUActivation, SiLUActivation

from ptec_udf.model.attention import attend_in_layer, is_quicker


def use_for_scoring(backbone: Any) -> None:
    """Let a backbone's modules compute so, where its family is known; a second time changes nothing."""
    if backbone.dtype != torch.bfloat16 or backbone.device.type != "cpu" or not _is_there():
        return
    for module in backbone.modules():
        if isinstance(getattr(module, "intermediate_act_fn", None), GELUActivation):  # BERT and those that follow it
            module.forward = partial(_with_gelu, module)
    if backbone.config.model_type == "llama":
        for layer in backbone.layers:
            layer.self_attn.forward = partial(_attend, layer.self_attn)
            if isinstance(layer.mlp.act_fn, (nn.SiLU, SiLUActivation)):
                layer.mlp.forward = partial(_gated, layer.mlp)


def _is_there() -> bool:
    """Tell whether torch has the step, which is not part of what it documents."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _with_gelu(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Widen hidden states and apply GELU, *Shape:* ``(batch, length, width)`` to ``(batch, length, inner width)``."""
    if not is_quicker(hidden):
        return type(module).forward(module, hidden)
    dense = module.dense
    return torch.ops.mkldnn._linear_pointwise(hidden, dense.weight, dense.bias, "gelu", [], "none")


def _gated(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Apply a gated feed-forward part, *Shape:* ``(batch, length, width)`` to the same."""
    if not is_quicker(hidden):
        return type(module).forward(module, hidden)
    step, gate, up = torch.ops.mkldnn._linear_pointwise, module.gate_proj, module.up_proj
    opened = step(hidden, gate.weight, gate.bias, "swish", [], "")
    return module.down_proj(step.binary(hidden, opened, up.weight, up.bias, "mul"))


def _normed(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Apply RMSNorm, *Shape:* any to the same: squares are summed in float32, but not laid out in it."""
    if not is_quicker(hidden):
        return type(module).forward(module, hidden)
    length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
    shrunk = torch.rsqrt(length.square() / hidden.shape[-1] + module.variance_epsilon).to(hidden.dtype)
    return hidden * shrunk * module.weight


def _attend(module: Any, hidden_states: torch.Tensor, **others: Any) -> tuple[torch.Tensor, Any]:
    """Apply a decoder's attention, *Shape:* ``(batch, length, width)`` to the same; as transformers calls it."""
    if not is_quicker(hidden_states):
        return type(module).forward(module, hidden_states, **others)
    layers = module.q_proj, module.k_proj, module.v_proj
    queries, keys, values = (
        layer(hidden_states).unflatten(-1, (-1, module.head_dim)).transpose(1, 2) for layer in layers
    )
    cos, sin = (part.unsqueeze(1) for part in others["position_embeddings"])
    queries, keys = rotated(queries, cos, sin), rotated(keys, cos, sin)
    if others.get("cache") is not None:
        keys, values = others["cache"].update(keys, values, module.layer_idx)
    mask = others.get("attention_mask")
    mixed, _ = attend_in_layer(module, queries, keys, values, mask, scaling=module.scaling)
    return module.o_proj(mixed.flatten(2)), None


def rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn queries or keys by their positions (rotary embedding), with fewer passes over memory than transformers.

    Args:
        states: *Shape:* ``(batch, n_heads, length, head_width)``.
        cos: of each position's angles, *Shape:* ``(1, 1, length, head_width)``.
        sin: as ``cos``.
    """
    half = states.shape[-1] // 2
    turned = states * cos
    turned[..., :half].addcmul_(states[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sin[..., half:])
    return turned
