"""Attention for scoring in bfloat16 on a processor, where it takes less than half of the time of torch's fused one.

There, most of the time goes into a softmax that looks for each row's greatest score first, against overflow. bfloat16
reaches as far as float32, so here the exponentials are taken as they are, and one product gives both the weighted
values and, by a further column of ones, the sum that they are divided by. A position that is not to be seen is a row of
zeros there. Where the sums tell that scores lie too far from 0 for that, and in other arithmetic, on a GPU and with
gradients, the fused one is used.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "ptec_unshifted"

_LEAST, _MOST = math.exp(-60), math.exp(75)  # of a sum of exponentials: far from the ends of what bfloat16 can hold
_NOT_KNOWN = ("position_bias", "softcap", "s_aux")  # what some families add to scores
_MOST_SCORES = 2**26  # laid out at once; the fused one lays out none, which very long texts need


def is_quicker(states: torch.Tensor) -> bool:
    """Tell whether this attention is for such states, *Shape:* any."""
    return states.dtype == torch.bfloat16 and states.device.type == "cpu" and not torch.is_grad_enabled()


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    scaling: float,
    seen: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mix values by the softmax of scores.

    Args:
        queries: *Shape:* ``(batch, n_heads, length, head_width)``.
        keys: *Shape:* ``(batch, n_key_heads, n_keys, head_width)``, each head for as many of the queries' heads.
        values: *Shape:* as of the keys.
        scaling: factor of scores.
        seen: which keys each query sees, or all queries see, *Shape:* ``(batch, 1, length or 1, n_keys)``.
        bias: is added to scores, *Shape:* ``(1 or batch, n_heads, length, n_keys)``.

    Returns:
        *Shape:* ``(batch, n_heads, length, head_width)``.
    """
    n_rows, n_heads, length, width = queries.shape
    n_key_heads, n_keys = keys.shape[1], keys.shape[2]
    if n_rows * n_heads * length * n_keys > _MOST_SCORES:
        return _fused(queries, keys, values, scaling, seen, bias)
    # The queries' heads that share keys are further queries of them.
    grouped = (queries * scaling).reshape(n_rows, n_key_heads, -1, width)
    weights = (grouped @ keys.transpose(-1, -2)).view(n_rows, n_heads, length, n_keys)
    if bias is not None:
        weights += bias
    weights = weights.exp_()
    ones = values.new_ones(n_rows, 1, n_keys, 1)
    if seen is not None and seen.shape[2] == 1:
        ones = seen.transpose(-1, -2).to(values.dtype)
    elif seen is not None:
        weights *= seen.to(weights.dtype)
    summed = torch.cat([values * ones, ones.expand(-1, n_key_heads, -1, -1)], dim=-1)
    mixed = (weights.view(n_rows, n_key_heads, -1, n_keys) @ summed).view(n_rows, n_heads, length, width + 1)
    sums = mixed[..., width:]
    least, most = sums.aminmax()
    if not (least >= _LEAST and most <= _MOST):  # or not a number, where an infinite one met a zero
        return _fused(queries, keys, values, scaling, seen, bias)
    return mixed[..., :width] / sums


def _fused(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float,
    seen: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Mix values by torch's own attention; arguments and result as of ``attend``."""
    mask = bias
    if seen is not None:
        hidden = torch.zeros(seen.shape, dtype=queries.dtype).masked_fill(~seen, -torch.inf)
        mask = hidden if bias is None else bias + hidden
    n_shared = queries.shape[1] // keys.shape[1]
    keys, values = (part.repeat_interleave(n_shared, dim=1) for part in (keys, values))
    if mask is not None:
        mask = mask.expand(len(queries), -1, queries.shape[2], -1)
    return scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scaling)


def attend_in_layer(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers asks for it, *Shape:* of the result ``(batch, length, n_heads, head_width)``."""
    causal = getattr(module, "is_causal", True)
    # Without a mask, a causal layer relies on torch's own.
    known = not causal if attention_mask is None else attention_mask.dtype == torch.bool
    if not known or not is_quicker(query) or any(others.get(name) is not None for name in _NOT_KNOWN):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    if attention_mask is not None and not causal and others.get("sliding_window") is None:
        attention_mask = attention_mask[:, :, :1]  # no query sees other keys than the first one
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(query, key, value, scaling=scaling, seen=attention_mask).transpose(1, 2), None


def use_for_scoring(backbone: Any) -> None:
    """Let a backbone that computes in bfloat16 on a processor attend so, if its family has torch's fused attention."""
    on_processor = backbone.dtype == torch.bfloat16 and backbone.device.type == "cpu"
    if on_processor and backbone.config._attn_implementation == "sdpa":
        backbone.set_attn_implementation(NAME)


AttentionInterface.register(NAME, attend_in_layer)
AttentionMaskInterface.register(NAME, sdpa_mask)
