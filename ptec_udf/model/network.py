"""The PTEC network: frozen backbone, soft prompt, classification head; token ids to logits.

PEFT's wrapper is not used for the forward pass: it drops position ids and refuses other masks, so that a text's scores
would depend on its batch. Order of positions: [soft prompt][text][padding].

Source of the method: Buchner et al., "Prompt Tuned Embedding Classification for Industry Sector Allocation", NAACL 2024
(arXiv 2309.12075); deep prompts: Li and Liang, "Prefix-Tuning", ACL 2021 (arXiv 2101.00190); label attention:
Mullenbach et al., "Explainable Prediction of Medical Codes from Clinical Text", NAACL 2018 (arXiv 1802.05695);
LoRA: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.cache_utils import Cache

from ptec_udf.errors import ArtifactError
from ptec_udf.model import mpnet
from ptec_udf.model.artifact import LORA_A, LORA_B, Artifact
from ptec_udf.model.manifest import Pooling, PromptKind
from ptec_udf.model.prefix import (
    BackboneShape,
    LayerKeysValues,
    PrefixLayer,
    keys_values_of_embeddings,
    split_deep_prompt,
)


class LabelAttention(nn.Module):
    """Average a text's hidden states once per label, by weights of each label.

    ``queries``, *Shape:* ``(n_labels, n_features)``: with zeros, all positions have equal weight. ``unit`` is their
    factor, so that one learning rate suits hidden states of any size.
    """

    def __init__(self, queries: torch.Tensor, unit: float = 1.0) -> None:
        super().__init__()
        self.queries = nn.Parameter(queries)
        self.unit = unit

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool hidden states, *Shape:* ``(batch, length, n_features)``, to ``(batch, n_labels, n_features)``."""
        scores = (hidden @ self.raw_queries().T).masked_fill(mask.unsqueeze(-1) == 0, -torch.inf)
        return scores.softmax(dim=1).transpose(1, 2) @ hidden

    def raw_queries(self) -> torch.Tensor:
        """Return the queries times their unit, *Shape:* ``(n_labels, n_features)``."""
        return self.queries * self.unit


class Head(nn.Linear):
    """One logit per label, from features that all labels share or from each label's own."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features, *Shape:* ``(batch, [n_labels,] n_features)``, to logits, ``(batch, n_labels)``."""
        if features.dim() == 2:
            return super().forward(features)
        return (features * self.weight).sum(dim=-1) + self.bias


class PtecNetwork(nn.Module):
    """Map token ids to one logit per label; the backbone stays in eval mode, and frozen except for LoRA.

    The prompt's weight is PEFT's: *Shape:* ``(n_prompt, width)`` for kind ``input`` (virtual tokens before the text),
    ``(n_prompt, n_layers * 2 * n_heads * head_width)`` for kind ``deep`` (keys and values in each layer; in MPNet in
    the upper ones). ``attention`` replaces pooling. ``n_upper``: number of MPNet's adapted layers, if ``features`` gets
    the output of the layers below.
    """

    def __init__(
        self,
        *,
        backbone: Any,
        kind: PromptKind | None,
        prompt: torch.Tensor | None,
        head: nn.Module,
        pooling: Pooling,
        attention: LabelAttention | None = None,
        n_upper: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.kind = kind
        self.pooling = pooling
        self.attention = attention
        self._n_upper = n_upper or 0
        self.prompt = None if prompt is None else nn.Parameter(prompt)
        self.head = head
        causal = is_causal(backbone)
        # An input prompt in a bidirectional encoder attends to the text: it cannot be computed beforehand.
        self.caches_prompt = kind is not None and (kind == "deep" or causal)
        # Encoders count on from the prompt by themselves, each family from its own first position.
        self._takes_positions = causal and "position_ids" in inspect.signature(backbone.forward).parameters
        self._frozen_prefix: list[LayerKeysValues] | None = None

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.backbone.device

    def train(self, mode: bool = True) -> PtecNetwork:
        """Switch the head's mode only: a frozen backbone in train mode would drop activations."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def freeze_prompt(self) -> None:
        """Compute the prompt's keys and values once, for scoring."""
        if self.caches_prompt:
            dtype = self.backbone.dtype
            self._frozen_prefix = [(keys.to(dtype), values.to(dtype)) for keys, values in self._prefix()]

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return logits, *Shape:* ``(batch, n_labels)``, in float32, of right-padded ids and mask (1 at text)."""
        return self.head(self.features(input_ids, mask))

    def features(self, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return pooled hidden states of text positions, *Shape:* ``(batch, [n_labels,] width)``, in float32.

        ``text`` are ids, or in MPNet the output of the layers below the adapted ones.
        """
        hidden = self.hidden(text, mask)
        if self.attention is None:
            return pool(hidden, mask, self.pooling)
        with torch.autocast(hidden.device.type, enabled=False):  # training may compute the backbone in bfloat16
            return self.attention(hidden, mask)

    def hidden(self, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return hidden states of text positions in float32, *Shape:* ``(batch, length, width)``; see ``features``."""
        return (self._hidden_cached(text, mask) if self.caches_prompt else self._hidden_plain(text, mask)).float()

    def _hidden_cached(self, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        prefix = self._frozen_prefix if self._frozen_prefix is not None else self._prefix()
        if mpnet.is_mpnet(self.backbone):
            return mpnet.run(self.backbone, text, mask, prefix)
        n_prompt = prefix[0][0].shape[-2]
        cache = Cache(layers=[PrefixLayer(keys, values) for keys, values in prefix])
        arguments: dict[str, Any] = {"cache": cache, "use_cache": True}
        if self._takes_positions:
            positions = torch.arange(n_prompt, n_prompt + text.shape[1], device=mask.device)
            arguments["position_ids"] = positions.unsqueeze(0)
        with_prompt = functional.pad(mask, (n_prompt, 0), value=1)
        return self.backbone(input_ids=text, attention_mask=with_prompt, **arguments).last_hidden_state

    def _hidden_plain(self, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if text.is_floating_point():
            return mpnet.run(self.backbone, text, mask, [None] * self._n_upper)
        if self.prompt is None:
            return self.backbone(input_ids=text, attention_mask=mask).last_hidden_state
        tokens, n_prompt = self.backbone.get_input_embeddings()(text), len(self.prompt)
        prompt = self.prompt.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        embeddings = torch.cat([prompt, tokens], dim=1)
        with_prompt = functional.pad(mask, (n_prompt, 0), value=1)
        return self.backbone(inputs_embeds=embeddings, attention_mask=with_prompt).last_hidden_state[:, n_prompt:]

    def _prefix(self) -> list[LayerKeysValues]:
        """Return the prompt's keys and values per layer, with gradients."""
        assert self.prompt is not None
        if self.kind == "deep":
            return split_deep_prompt(self.prompt, BackboneShape.of(self.backbone))
        return compute_keys_values(self.backbone, self.prompt.to(self.backbone.dtype))


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool hidden states, *Shape:* ``(batch, length, width)``, to ``(batch, width)``: the last position or the mean."""
    if pooling == "last":
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), mask.sum(dim=1) - 1]
    weights = mask.unsqueeze(-1).float()
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def accepts_keys_values(backbone: Any) -> bool:
    """Return whether a text can be run after given keys and values: by the library's code or, for MPNet, by ours."""
    return mpnet.is_mpnet(backbone) or "cache" in inspect.signature(backbone.forward).parameters


def compute_keys_values(backbone: Any, embeddings: torch.Tensor) -> list[LayerKeysValues]:
    """Run the backbone over input embeddings, *Shape:* ``(n_prompt, width)``; return each layer's keys and values."""
    compute = mpnet.keys_values if mpnet.is_mpnet(backbone) else keys_values_of_embeddings
    return compute(backbone, embeddings)


@torch.no_grad()
def is_causal(backbone: Any) -> bool:
    """Find out by a small pass whether a position sees only the ones before it."""
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]], device=backbone.device)
    hidden = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return bool(torch.equal(hidden[0, 0], hidden[1, 0])) and not torch.equal(hidden[0, 2], hidden[1, 2])


@torch.no_grad()
def merge_lora(backbone: Any, artifact: Artifact) -> None:
    """Add LoRA's ``alpha / rank * B @ A``, if any, to the weights of a backbone that no other model uses."""
    spec, weights = artifact.manifest.lora, artifact.adapter
    if spec is None:
        return
    modules = dict(backbone.named_modules())
    for name in (name.removesuffix(LORA_A) for name in weights if name.endswith(LORA_A)):
        update = torch.from_numpy(spec.alpha / spec.rank * weights[name + LORA_B] @ weights[name + LORA_A])
        layer = modules.get(name.removeprefix("base_model.model."))  # PEFT's prefix
        if not isinstance(layer, nn.Linear) or layer.weight.shape != update.shape:
            raise ArtifactError(f"LoRA adapts {name!r}, shape {tuple(update.shape)}: the backbone has no such layer")
        layer.weight.add_(update.to(backbone.device, backbone.dtype))
