"""MPNet with a soft prompt's keys and values, and from any of its layers on.

The library's MPNet takes no keys and values, so the pass through its layers is written here, with its own weights. A
prompt may be in the upper layers only; training then computes the output of the lower layers once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from ptec_udf.model.prefix import LayerKeysValues, prepend

_MASKED = -1e4  # zero after the softmax, in bfloat16 too


def is_mpnet(backbone: Any) -> bool:
    """Return whether a backbone is of this family."""
    return backbone.config.model_type == "mpnet"


def run(
    backbone: Any, text: torch.Tensor, mask: torch.Tensor, prefix: Sequence[LayerKeysValues | None]
) -> torch.Tensor:
    """Run text through the layers; return hidden states of the last one, *Shape:* ``(batch, length, width)``.

    ``text`` are right-padded ids, *Shape:* ``(batch, length)`` like ``mask``, or the output of ``below``. ``prefix``
    has keys and values of each upper layer; None for a layer with LoRA only.
    """
    hidden = text if text.is_floating_point() else below(backbone, text, mask, len(prefix))
    bias = _attention_bias(backbone, mask)
    layers = backbone.encoder.layer
    for layer, keys_values in zip(layers[len(layers) - len(prefix) :], prefix, strict=True):
        hidden = _apply(layer, hidden, bias, keys_values)
    return hidden


@torch.no_grad()
def below(backbone: Any, ids: torch.Tensor, mask: torch.Tensor, n_upper: int) -> torch.Tensor:
    """Return the output of the layers below the ``n_upper`` last ones, *Shape:* ``(batch, length, width)``."""
    layers, bias = backbone.encoder.layer, _attention_bias(backbone, mask)
    hidden = backbone.embeddings(input_ids=ids)
    for layer in layers[: len(layers) - n_upper]:
        hidden = _apply(layer, hidden, bias)
    return hidden


def keys_values(backbone: Any, embeddings: torch.Tensor) -> list[LayerKeysValues]:
    """Return each layer's keys and values of input embeddings, *Shape:* ``(n_prompt, width)``."""
    hidden = backbone.embeddings(inputs_embeds=embeddings.unsqueeze(0))
    bias = _attention_bias(backbone, hidden.new_ones(hidden.shape[:2]))
    found = []
    for layer in backbone.encoder.layer:
        found.append(_keys_values(layer.attention.attn, hidden))
        hidden = _apply(layer, hidden, bias)
    return found


def _apply(layer: Any, hidden: torch.Tensor, bias: torch.Tensor, prefix: LayerKeysValues | None = None) -> torch.Tensor:
    attention = layer.attention.attn
    queries = _by_head(attention.q(hidden), attention)
    keys, values = _keys_values(attention, hidden)
    if prefix is not None:
        keys, values = prepend(prefix, (keys, values))
        bias = functional.pad(bias, (prefix[0].shape[-2], 0))  # prompt positions have no distance and no mask
    mixed = _attend(queries, keys, values, bias.to(queries.dtype))
    attended = layer.attention.LayerNorm(attention.o(mixed.transpose(1, 2).flatten(2)) + hidden)
    return layer.output(layer.intermediate(attended), attended)


def _attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Apply attention; arguments and result *Shape:* ``(batch, n_heads, length, head_width)``."""
    if torch.is_grad_enabled() and queries.dtype == torch.bfloat16 and queries.device.type == "cpu":
        # The backward pass of torch's fused attention is several times slower there.
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2) + bias
        return scores.softmax(dim=-1).to(values.dtype) @ values
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)


def _keys_values(attention: Any, hidden: torch.Tensor) -> LayerKeysValues:
    return _by_head(attention.k(hidden), attention), _by_head(attention.v(hidden), attention)


def _by_head(projected: torch.Tensor, attention: Any) -> torch.Tensor:
    """Split features by head, *Shape:* ``(batch, n_heads, length, head_width)``."""
    return projected.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)


def _attention_bias(backbone: Any, mask: torch.Tensor) -> torch.Tensor:
    """Return relative positions and the padding mask as one bias, *Shape:* ``(batch, n_heads, length, length)``."""
    distances = backbone.encoder.compute_position_bias(mask[:1])  # equal for all rows
    return distances + (1 - mask)[:, None, None, :].to(distances.dtype) * _MASKED
