"""A soft prompt's keys and values, computed once and put before every text.

In a causal decoder, and in an encoder whose prompt does not attend to the text, the prompt's keys
and values depend on nothing but the prompt. They are given to the backbone as a cache that returns
them with each text's own keys and values and stores nothing, so that a batch costs what it would
cost without a prompt. A plain ``DynamicCache`` would grow with every batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

LayerKeysValues = tuple[torch.Tensor, torch.Tensor]  # each (1, n_heads, n_prompt, head_width)


class BackboneShape(NamedTuple):
    """What a prompt must fit.

    Attributes:
        n_layers: number of layers.
        n_heads: number of heads of keys and values, which may be fewer than those of queries.
        head_width: features of a head.
        width: features of a hidden state.
    """

    n_layers: int
    n_heads: int
    head_width: int
    width: int

    @classmethod
    def of(cls, backbone: Any) -> BackboneShape:
        """Read it off a backbone's configuration."""
        config = backbone.config
        n_query_heads = config.num_attention_heads
        return cls(
            config.num_hidden_layers,
            getattr(config, "num_key_value_heads", None) or n_query_heads,
            getattr(config, "head_dim", None) or config.hidden_size // n_query_heads,
            config.hidden_size,
        )

    def prompted_layers(self, weight: torch.Tensor) -> int:
        """Return how many layers a deep prompt, in PEFT's layout, has keys and values for."""
        return weight.shape[1] // (2 * self.n_heads * self.head_width)


class PrefixLayer(DynamicLayer):
    """One layer's constant keys and values."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Hold the prompt's keys and values, each *Shape:* ``(1, n_heads, n_prompt, head_width)``."""
        super().__init__()
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return prompt and text together, *Shape:* ``(batch, n_heads, n_prompt + length, head_width)``."""
        n_rows = key_states.shape[0]
        keys = self.keys.to(key_states.dtype).expand(n_rows, -1, -1, -1)
        values = self.values.to(value_states.dtype).expand(n_rows, -1, -1, -1)
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def prefix_cache(layers: list[LayerKeysValues]) -> Cache:
    """Make the cache object that a backbone's forward takes."""
    return Cache(layers=[PrefixLayer(keys, values) for keys, values in layers])


def keys_values_of_embeddings(backbone: Any, embeddings: torch.Tensor) -> list[LayerKeysValues]:
    """Run the backbone over input embeddings and return each layer's keys and values.

    Args:
        backbone: a transformers model without head.
        embeddings: *Shape:* ``(n_prompt, width)``.
    """
    cache: Any = DynamicCache(config=backbone.config)
    backbone(inputs_embeds=embeddings.unsqueeze(0), cache=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def split_deep_prompt(weight: torch.Tensor, shape: BackboneShape) -> list[LayerKeysValues]:
    """Cut PEFT's prefix-tuning matrix into keys and values per layer that has a prompt.

    Args:
        weight: *Shape:* ``(n_prompt, n_layers * 2 * n_heads * head_width)``, PEFT's own layout.
        shape: that of the backbone, of whose layers the upper ones alone may have a prompt.
    """
    n_prompt, n_layers = weight.shape[0], shape.prompted_layers(weight)
    # (n_layers * 2, 1, n_heads, n_prompt, head_width)
    parts = weight.view(1, n_prompt, n_layers * 2, shape.n_heads, -1).permute(2, 0, 3, 1, 4)
    return [(parts[2 * layer], parts[2 * layer + 1]) for layer in range(n_layers)]


def join_deep_prompt(layers: list[LayerKeysValues]) -> torch.Tensor:
    """Put keys and values per layer into PEFT's layout; the inverse of ``split_deep_prompt``."""
    parts = torch.stack([part for pair in layers for part in pair])  # (n_layers * 2, 1, n_heads, n_prompt, head_width)
    return parts.permute(1, 3, 0, 2, 4).flatten(2).squeeze(0).contiguous()
