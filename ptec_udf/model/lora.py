"""Low-rank changes of a backbone's weights, added in before scoring, so that they cost nothing then.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ptec_udf.errors import ArtifactError

_FIRST, _SECOND = ".lora_A.weight", ".lora_B.weight"
_OUTSIDE = "base_model.model."  # PEFT's names begin so


@torch.no_grad()
def add_into(backbone: Any, weights: Mapping[str, torch.Tensor], scale: float) -> None:
    """Add ``scale * B @ A`` to the weights of the layers that were changed.

    Args:
        backbone: a transformers model of this process alone; its weights are changed.
        weights: under PEFT's own names, *Shape:* ``(rank, n_inputs)`` for A and ``(n_outputs, rank)`` for B.
        scale: the alpha of the training divided by the rank.

    Raises:
        ArtifactError: for a layer that the backbone does not have.
    """
    for name, first in weights.items():
        if not name.endswith(_FIRST):
            continue
        layer = name.removeprefix(_OUTSIDE).removesuffix(_FIRST)
        try:
            weight = backbone.get_submodule(layer).weight
        except AttributeError:
            raise ArtifactError(f"adapter changes the layer {layer!r}, which the backbone does not have") from None
        change = scale * weights[name.removesuffix(_FIRST) + _SECOND] @ first
        weight.add_(change.to(weight.device, weight.dtype))
