"""MPNet behind a soft prompt's keys and values, and from any of its layers on.

The library's MPNet takes no keys and values from outside, so the pass through its layers is written here, with
its own weights. A prompt may be in the upper layers only. What comes out of the layers below is then the same for all
prompts, so that training can compute it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

from ptec_udf.model.prefix import LayerKeysValues

_MASKED = -1e4  # in bfloat16 too, nothing is left of such a position


def is_mpnet(backbone: Any) -> bool:
    """Tell whether a backbone is of this family."""
    return backbone.config.model_type == "mpnet"


def run(
    backbone: Any, text: torch.Tensor, mask: torch.Tensor, prefix: Sequence[LayerKeysValues | None]
) -> BaseModelOutput:
    """Run text through the layers, the upper ones behind a prompt.

    Args:
        backbone: an MPNet.
        text: right-padded ids, *Shape:* ``(batch, length)``; or what ``below`` has made of them, *Shape:* ``(batch,
            length, width)``, which only the upper layers are then applied to.
        mask: 1 at text positions, 0 at padding, *Shape:* ``(batch, length)``.
        prefix: keys and values of each upper layer; None in one that has no prompt but LoRA.

    Returns:
        The text's hidden states, of all layers from the first one that was applied.
    """
    layers = backbone.encoder.layer
    n_below = len(layers) - len(prefix)
    bias = _bias(backbone, mask)
    if text.is_floating_point():
        states = [text]
    else:
        states = _through(layers[:n_below], [backbone.embeddings(input_ids=text)], bias)
    for layer, keys_values in zip(layers[n_below:], prefix, strict=True):
        states.append(_apply(layer, states[-1], bias, keys_values))
    return BaseModelOutput(last_hidden_state=states[-1], hidden_states=tuple(states))


@torch.no_grad()
def below(backbone: Any, ids: torch.Tensor, mask: torch.Tensor, n_upper: int) -> torch.Tensor:
    """Return what comes out of the layers below the upper ones, *Shape:* ``(batch, length, width)``; see ``run``."""
    layers = backbone.encoder.layer
    bias = _bias(backbone, mask)
    return _through(layers[: len(layers) - n_upper], [backbone.embeddings(input_ids=ids)], bias)[-1]


def keys_values(backbone: Any, embeddings: torch.Tensor) -> list[LayerKeysValues]:
    """Return each layer's keys and values of input embeddings, *Shape:* ``(n_prompt, width)``."""
    whole = backbone.embeddings(inputs_embeds=embeddings.unsqueeze(0))
    bias = _bias(backbone, whole.new_ones(whole.shape[:2]))
    states = _through(backbone.encoder.layer, [whole], bias)
    before = zip(backbone.encoder.layer, states[:-1], strict=True)
    return [_keys_values(layer.attention.attn, state) for layer, state in before]


def _through(layers: Sequence[Any], states: list[torch.Tensor], bias: torch.Tensor) -> list[torch.Tensor]:
    """Apply layers one after the other; return the hidden states before, between and after them."""
    for layer in layers:
        states = [*states, _apply(layer, states[-1], bias)]
    return states


def _apply(layer: Any, hidden: torch.Tensor, bias: torch.Tensor, prefix: LayerKeysValues | None = None) -> torch.Tensor:
    """Apply one layer, *Shape:* ``(batch, length, width)`` to the same."""
    attention = layer.attention.attn
    queries = _by_head(attention.q(hidden), attention)
    keys, values = _keys_values(attention, hidden)
    if prefix is not None:
        before = [part.to(keys.dtype).expand(len(hidden), -1, -1, -1) for part in prefix]
        keys, values = (torch.cat(pair, dim=-2) for pair in zip(before, (keys, values), strict=True))
        bias = functional.pad(bias, (before[0].shape[-2], 0))  # to its positions nothing is far and nothing hidden
    mixed = _attend(queries, keys, values, bias.to(queries.dtype))
    added, norm = attention.o(mixed.transpose(1, 2).flatten(2)), layer.attention.LayerNorm
    attended = norm(added + hidden)
    return layer.output(layer.intermediate(attended), attended)


def _attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Mix values, arguments and result *Shape:* ``(batch, n_heads, length, head_width)``."""
    if torch.is_grad_enabled() and queries.dtype == torch.bfloat16 and queries.device.type == "cpu":
        # Backwards, torch's fused attention is several times as slow there as its parts are.
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2) + bias
        return scores.softmax(dim=-1).to(values.dtype) @ values
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)


def _keys_values(attention: Any, hidden: torch.Tensor) -> LayerKeysValues:
    """Keys and values of hidden states, each *Shape:* ``(batch, n_heads, length, head_width)``."""
    return _by_head(attention.k(hidden), attention), _by_head(attention.v(hidden), attention)


def _by_head(projected: torch.Tensor, attention: Any) -> torch.Tensor:
    """Part features by head, *Shape:* ``(batch, n_heads, length, head_width)``."""
    return projected.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)


def _bias(backbone: Any, mask: torch.Tensor) -> torch.Tensor:
    """What is added to attention scores, *Shape:* ``(batch, n_heads, length, length)``: distance, and no padding."""
    distances = backbone.encoder.compute_position_bias(mask[:1])  # of one row: all are alike
    return distances + (1 - mask)[:, None, None, :].to(distances.dtype) * _MASKED
