"""A soft prompt's keys and values, computed once and put before each text, which then costs what it costs without.

That is exact in a causal decoder, and in an encoder whose prompt does not attend to the text. The backbone gets a cache
that returns them with each text's own and stores nothing; a plain ``DynamicCache`` would grow with each batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from ptec_udf.errors import BackboneError

LayerKeysValues = tuple[torch.Tensor, torch.Tensor]  # each (1, n_heads, n_prompt, head_width)


class BackboneShape(NamedTuple):
    """The sizes that a prompt must fit; ``n_heads`` counts heads of keys and values."""

    n_layers: int
    n_heads: int
    head_width: int
    width: int

    @classmethod
    def of(cls, backbone: Any) -> BackboneShape:
        """Read the sizes from a backbone's configuration; raise BackboneError for one without them."""
        config = backbone.config
        try:
            n_query_heads, width = config.num_attention_heads, config.hidden_size
            n_heads = getattr(config, "num_key_value_heads", None) or n_query_heads
            head_width = getattr(config, "head_dim", None) or width // n_query_heads
            return cls(config.num_hidden_layers, n_heads, head_width, width)
        except AttributeError as error:
            rule = f"the architecture {config.model_type!r} is not supported"
            raise BackboneError(f"{rule}: its configuration has no {error.name}") from None


class PrefixLayer(DynamicLayer):
    """One layer's constant keys and values, each *Shape:* ``(1, n_heads, n_prompt, head_width)``."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return prompt and text together, *Shape:* ``(batch, n_heads, n_prompt + length, head_width)``."""
        return prepend((self.keys, self.values), (key_states, value_states))


def prepend(prefix: LayerKeysValues, states: LayerKeysValues) -> LayerKeysValues:
    """Put a prompt's keys and values before the keys and values of each text of a batch."""
    keys, values = (
        torch.cat([part.to(own.dtype).expand(own.shape[0], -1, -1, -1), own], dim=-2)
        for part, own in zip(prefix, states, strict=True)
    )
    return keys, values


def keys_values_of_embeddings(backbone: Any, embeddings: torch.Tensor) -> list[LayerKeysValues]:
    """Run a transformers model without head over embeddings, *Shape:* ``(n_prompt, width)``; return keys and values."""
    cache: Any = DynamicCache(config=backbone.config)
    backbone(inputs_embeds=embeddings.unsqueeze(0), cache=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def split_deep_prompt(weight: torch.Tensor, shape: BackboneShape) -> list[LayerKeysValues]:
    """Split PEFT's matrix, *Shape:* ``(n_prompt, n_layers * 2 * n_heads * head_width)``, by layer with a prompt."""
    # (n_layers * 2, 1, n_heads, n_prompt, head_width)
    parts = weight.view(1, len(weight), -1, shape.n_heads, shape.head_width).permute(2, 0, 3, 1, 4)
    return list(zip(parts[::2], parts[1::2], strict=True))


def join_deep_prompt(layers: list[LayerKeysValues]) -> torch.Tensor:
    """Put keys and values per layer into PEFT's layout; the inverse of ``split_deep_prompt``."""
    parts = torch.stack([part for pair in layers for part in pair])
    return parts.permute(1, 3, 0, 2, 4).flatten(2).squeeze(0).contiguous()
