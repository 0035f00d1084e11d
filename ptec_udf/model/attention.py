"""Attention for scoring in bfloat16 on a processor, where it takes less than half of the time of torch's fused one.

There, most of the time goes into a softmax that looks for each row's greatest score first, against overflow. bfloat16
reaches as far as float32, so here the exponentials are taken as they are; one product gives the weighted
values, another the sums that they are divided by. A position that is not to be seen is a row of zeros there. Where the
sums tell that scores lie too far from 0 for that, and in other arithmetic, on a GPU and with gradients, the fused one
is used.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

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
    causal: bool = False,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mix values by the softmax of scores.

    Args:
        queries: *Shape:* ``(batch, n_heads, length, head_width)``.
        keys: *Shape:* ``(batch, n_key_heads, n_keys, head_width)``, each head for as many of the queries' heads.
        values: *Shape:* as of the keys.
        scaling: factor of scores.
        seen: which keys each query sees, or all queries see, *Shape:* ``(1 or batch, 1, length or 1, n_keys)``.
        causal: in place of ``seen``: the queries are those of the last keys, and see none behind their own.
        bias: is added to scores, *Shape:* ``(1 or batch, n_heads, length, n_keys)``.

    Returns:
        *Shape:* ``(batch, n_heads, length, head_width)``; in memory a position's heads stand side by side.
    """
    n_rows, n_heads, length, width = queries.shape
    n_key_heads, n_keys = keys.shape[1], keys.shape[2]
    n_before = 0  # so many keys all queries see, where each has its own
    if causal:
        n_before = n_keys - length
        seen = torch.ones(1, 1, length, n_keys, dtype=torch.bool, device=queries.device).tril_(n_before)
    wanted = _Wanted(queries, keys, values, scaling, seen, bias)
    if n_rows * n_heads * length * n_keys > _MOST_SCORES:
        return _fused(wanted)
    # The queries' heads that share keys are further queries of them.
    scaled = torch.mul(queries, scaling, out=queries.new_empty(queries.shape)).view(n_rows, n_key_heads, -1, width)
    weights = (scaled @ keys.transpose(-1, -2)).view(n_rows, n_heads, length, n_keys)
    if bias is not None:
        weights += bias
    weights = weights.exp_()
    counted, shown = values.new_ones(1, n_keys, 1), values
    if seen is not None and seen.shape[2] == 1:
        counted = seen[:, 0].transpose(-1, -2).to(values.dtype)
        shown = values * counted.unsqueeze(1)
    elif seen is not None:
        weights[..., n_before:] *= seen[..., n_before:].to(weights.dtype)
    sums = (weights.view(n_rows, -1, n_keys) @ counted).view(n_rows, n_heads, length, 1)
    summed = (weights.view(n_rows, n_key_heads, -1, n_keys) @ shown).view(queries.shape)
    mixed = queries.new_empty(n_rows, length, n_heads, width).transpose(1, 2)
    torch.div(summed, sums, out=mixed)
    odd = _odd(sums)
    if odd is not None:  # nothing else changes: a text's scores do not depend on what its neighbours have there
        mixed[odd] = _fused(wanted.of(*odd)).squeeze(1)
    return mixed


def _odd(sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Find the rows' heads whose scores lie too far from 0, by sums *Shape:* ``(batch, n_heads, length, 1)``.

    Returns:
        Their rows and heads, each *Shape:* ``(n_odd,)``; None, which is the rule, where there is none.
    """
    least, most = sums.aminmax()
    if least >= _LEAST and most <= _MOST:
        return None
    are_odd = ~((sums >= _LEAST) & (sums <= _MOST))  # or not a number, where an infinite one met a zero
    rows, heads = are_odd.flatten(2).any(dim=2).nonzero(as_tuple=True)
    return rows, heads


class _Wanted(NamedTuple):
    """What ``attend`` is asked for."""

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    scaling: float
    seen: torch.Tensor | None
    bias: torch.Tensor | None

    def of(self, rows: torch.Tensor, heads: torch.Tensor) -> _Wanted:
        """Choose heads of rows, each *Shape:* ``(n_chosen,)``: every one becomes a row of one head."""
        n_rows, n_heads = self.queries.shape[:2]
        of_keys = heads // (n_heads // self.keys.shape[1])
        queries = self.queries[rows, heads].unsqueeze(1)
        keys, values = (states[rows, of_keys].unsqueeze(1) for states in (self.keys, self.values))
        seen = None if self.seen is None else self.seen.expand(n_rows, -1, -1, -1)[rows]
        bias = None if self.bias is None else self.bias.expand(n_rows, -1, -1, -1)[rows, heads].unsqueeze(1)
        return _Wanted(queries, keys, values, self.scaling, seen, bias)


def _fused(wanted: _Wanted) -> torch.Tensor:
    """Mix values by torch's own attention; the result is that of ``attend``."""
    queries, keys, values, scaling, seen, mask = wanted
    if seen is not None:
        hidden = torch.zeros(seen.shape, dtype=queries.dtype).masked_fill(~seen, -torch.inf)
        mask = hidden if mask is None else mask + hidden
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
