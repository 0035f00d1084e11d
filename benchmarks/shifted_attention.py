"""Our attention for scoring as ``torch.compile`` can take it whole: without looking at scores to choose another way.

``ptec_udf/model/attention.py`` takes exponentials as they are and, where scores lie too far from 0, the fused attention
instead. A compiler has to stop at that choice. Here each row's greatest score is subtracted first, that
of hidden positions too. To hide scores before that, as others do, was slower than ours as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "ptec_shifted"


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers asks for it.

    Args:
        module: of the layer.
        query: *Shape:* ``(batch, n_heads, length, head_width)``.
        key: *Shape:* ``(batch, n_key_heads, n_keys, head_width)``, each head for as many of the queries' heads.
        value: *Shape:* as of the keys.
        attention_mask: which keys each query sees, *Shape:* ``(batch, 1, length, n_keys)``; None: all.
        scaling: factor of scores.
        others: what transformers gives besides.

    Returns:
        *Shape:* ``(batch, length, n_heads, head_width)``.
    """
    n_rows, n_heads, length, width = query.shape
    n_key_heads, n_keys = key.shape[1], key.shape[2]
    scaling = width**-0.5 if scaling is None else scaling
    grouped = (query * scaling).reshape(n_rows, n_key_heads, -1, width)
    scores = (grouped @ key.transpose(-1, -2)).view(n_rows, n_heads, length, n_keys)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    ones = value.new_ones(n_rows, 1, n_keys, 1)
    if attention_mask is not None and not getattr(module, "is_causal", True):
        ones = attention_mask[:, :, :1].transpose(-1, -2).to(value.dtype)  # no query sees other keys than the first one
    elif attention_mask is not None:
        weights = weights * attention_mask.to(weights.dtype)
    summed = torch.cat([value * ones, ones.expand(-1, n_key_heads, -1, -1)], dim=-1)
    mixed = (weights.view(n_rows, n_key_heads, -1, n_keys) @ summed).view(n_rows, n_heads, length, width + 1)
    return (mixed[..., :width] / mixed[..., width:]).transpose(1, 2), None


def _mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    """Make a mask always, where the fused attention can do without."""
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _mask)
