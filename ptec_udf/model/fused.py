"""Parts of backbones that are computed otherwise when texts are scored in bfloat16 on a processor.

What follows a linear layer (GELU; SiLU and a gate's product) is done by oneDNN while the layer's results are still at
hand, and before they are rounded: torch has that step for compiled models, and it is called here as those call it. The
weights stay those of the host's file. Where that step is not to be had, the backbone's own code runs.

What all layers add to is kept in float32: in bfloat16 each addition would round it again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import GELUActivation, SiLUActivation

from ptec_udf.model.attention import attend, is_quicker

_FAMILIES = ("Bert", "Camembert", "Electra", "MPNet", "Roberta", "XLMRoberta")
_WITH_GELU = {f"{family}Intermediate" for family in _FAMILIES}
"""Modules that are a linear layer and GELU, and nothing else."""

_WITH_SUM = {f"{family}{part}" for family in _FAMILIES for part in ("Output", "SelfOutput")}
"""Modules that are a linear layer and the norm of the sum of its result and of hidden states, and nothing else."""

_EXACT = "ptec_float32"
"""Attribute of hidden states in bfloat16: what they were rounded from, for the next sum."""


def use_for_scoring(backbone: Any) -> None:
    """Let a backbone's modules compute so, where their family is known; a second time changes nothing."""
    if backbone.dtype != torch.bfloat16 or backbone.device.type != "cpu" or not _is_there():
        return
    for module in backbone.modules():
        if type(module).__name__ in _WITH_GELU and isinstance(module.intermediate_act_fn, GELUActivation):
            _replace(module, _with_gelu)
        if type(module).__name__ in _WITH_SUM:
            _replace(module, _with_sum)
    if backbone.config.model_type == "llama":
        for layer in backbone.layers:
            _replace(layer.self_attn, _attend)
            _replace(layer, _decode)
            if isinstance(layer.mlp.act_fn, (nn.SiLU, SiLUActivation)):
                _replace(layer.mlp, _gated)


def _replace(module: Any, forward: Callable[..., Any]) -> None:
    """Let a module compute by another function, which has it by a weak reference: it goes when the backbone goes."""
    module.forward = partial(_forward, forward, weakref.ref(module))


def _forward(forward: Callable[..., Any], held: Callable[[], Any], *args: Any, **others: Any) -> Any:
    """Compute by the function where its arithmetic is the module's, with gradients by the library's own code."""
    module = held()
    quicker = is_quicker(next(module.parameters()))
    return (forward if quicker else type(module).forward)(module, *args, **others)


@lru_cache
@torch.no_grad()
def _is_there() -> bool:
    """Find out by trying whether torch has the step, which it does not document, and this processor can do it."""
    row, weight = (torch.ones(n, 16, dtype=torch.bfloat16) for n in (1, 2))
    try:
        step = torch.ops.mkldnn._linear_pointwise
        step(row, weight, None, "gelu", [], "none")
        step.binary(row, step(row, weight, None, "swish", [], ""), weight, None, "mul")
    except Exception:  # whatever a missing or a changed operation says
        return False
    return True


def _with_gelu(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Widen hidden states and apply GELU, *Shape:* ``(batch, length, width)`` to ``(batch, length, inner width)``."""
    dense = module.dense
    return torch.ops.mkldnn._linear_pointwise(hidden, dense.weight, dense.bias, "gelu", [], "none")


def _with_sum(module: Any, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
    """Narrow hidden states, add those of ``input_tensor`` and norm the sum, *Shape:* ``(batch, length, width)``."""
    return add_and_norm(input_tensor, module.dense(hidden_states), module.LayerNorm)


def add_and_norm(hidden: torch.Tensor, added: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    """Add to hidden states and norm the sum, all *Shape:* ``(batch, length, width)`` in bfloat16.

    Where the hidden states are of this function too, they count as they were before they were rounded; that is then
    let go, since some backbones keep the states of all layers.
    """
    total = added.float().add_(vars(hidden).pop(_EXACT, hidden))
    exact = functional.layer_norm(total, norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)
    rounded = exact.bfloat16()
    setattr(rounded, _EXACT, exact)
    return rounded


def _gated(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Apply a gated feed-forward part, *Shape:* ``(batch, length, width)`` to the same."""
    step, gate, up = torch.ops.mkldnn._linear_pointwise, module.gate_proj, module.up_proj
    opened = step(hidden, gate.weight, gate.bias, "swish", [], "")
    return module.down_proj(step.binary(hidden, opened, up.weight, up.bias, "mul"))


def _attend(module: Any, hidden_states: torch.Tensor, **others: Any) -> tuple[torch.Tensor, Any]:
    """Apply a decoder's attention, *Shape:* ``(batch, length, width)`` to the same; as transformers calls it.

    Padding stands behind the text, which a causal mask hides from it; what padded positions come to is of no use.
    """
    layers = module.q_proj, module.k_proj, module.v_proj
    queries, keys, values = (
        layer(hidden_states).unflatten(-1, (-1, module.head_dim)).transpose(1, 2) for layer in layers
    )
    cos, sin = (part.unsqueeze(1) for part in others["position_embeddings"])
    queries, keys = rotated(queries, cos, sin), rotated(keys, cos, sin)
    if others.get("cache") is not None:
        keys, values = others["cache"].update(keys, values, module.layer_idx)
    mixed = attend(queries, keys, values, scaling=module.scaling, causal=True)
    return module.o_proj(mixed.transpose(1, 2).flatten(2)), None


def _decode(module: Any, hidden_states: torch.Tensor, **others: Any) -> torch.Tensor:
    """Apply a decoder's layer, *Shape:* ``(batch, length, width)`` to the same, from and to float32."""
    hidden = hidden_states.float()
    mixed, _ = module.self_attn(hidden_states=normed(hidden, module.input_layernorm), **others)
    hidden = hidden + mixed
    return hidden.add_(module.mlp(normed(hidden, module.post_attention_layernorm)))


def normed(hidden: torch.Tensor, norm: Any) -> torch.Tensor:
    """Apply RMSNorm, *Shape:* ``(batch, length, width)`` to the same, from float32 to bfloat16.

    torch's kernel for batch norm takes rows in bfloat16 and their scale in float32, without laying out more than what
    it returns.
    """
    rows = hidden.flatten(0, 1)
    mean_squares = torch.linalg.vector_norm(rows, dim=-1).square_().div_(rows.shape[-1])
    no_shift = torch.zeros_like(mean_squares)
    shrunk = functional.batch_norm(rows.bfloat16().unsqueeze(0), no_shift, mean_squares, eps=norm.variance_epsilon)
    return norm.weight * shrunk.view_as(hidden)


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
