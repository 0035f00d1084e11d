"""Low-rank changes of a backbone's weights, added in before scoring, so that they cost nothing then.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ptec_udf.errors import ArtifactError

FIRST, SECOND = ".lora_A.weight", ".lora_B.weight"
_OUTSIDE = "base_model.model."  # PEFT's names begin so
_CHANGED = "changed_by_lora"


@torch.no_grad()
def merge_lora(backbone: Any, weights: Mapping[str, torch.Tensor], scale: float) -> None:
    """Add ``scale * B @ A`` to the weights of the layers that were changed.

    Args:
        backbone: a transformers model of this caller alone; its weights are changed.
        weights: under PEFT's own names, *Shape:* ``(rank, n_inputs)`` for A and ``(n_outputs, rank)`` for B.
        scale: the alpha of the training divided by the rank.

    Raises:
        ArtifactError: for a layer that the backbone does not have in this form.
    """
    for name in weights:
        if name.endswith(FIRST):
            layer = name.removeprefix(_OUTSIDE).removesuffix(FIRST)
            change = scale * weights[name.removesuffix(FIRST) + SECOND] @ weights[name]
            _linear(backbone, layer, change.shape).weight.add_(change.to(backbone.device, backbone.dtype))
    setattr(backbone, _CHANGED, True)


def check_unchanged(backbone: Any) -> None:
    """Refuse a backbone whose weights another model has changed.

    Raises:
        ValueError: when it has been given to ``merge_lora``.
    """
    if getattr(backbone, _CHANGED, False):
        raise ValueError("a backbone must be loaded anew for each model with LoRA, which changes its weights")


def _linear(backbone: Any, name: str, shape: torch.Size) -> nn.Linear:
    """Return a layer of a backbone."""
    try:
        layer = backbone.get_submodule(name)
    except AttributeError:
        layer = None
    if not isinstance(layer, nn.Linear) or layer.weight.shape != shape:
        raise ArtifactError(f"LoRA must change linear layers of the backbone, {name!r} of shape {tuple(shape)} is none")
    return layer
