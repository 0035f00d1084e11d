"""Low-rank updates of a backbone's weights, merged before scoring, so that they cost nothing at scoring.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import LORA_A, LORA_B

_PEFT_PREFIX = "base_model.model."
_MERGED = "has_merged_lora"


@torch.no_grad()
def merge_lora(backbone: Any, weights: Mapping[str, NDArray[np.float32]], scale: float) -> None:
    """Add ``scale * B @ A`` to the weights of each adapted layer.

    Args:
        backbone: a transformers model that no other model uses; its weights are changed.
        weights: under PEFT's names; A has *Shape:* ``(rank, n_inputs)``, B ``(n_outputs, rank)``.
        scale: alpha / rank.

    Raises:
        ArtifactError: for a layer that the backbone does not have in this shape.
    """
    for name in weights:
        if name.endswith(LORA_A):
            stem = name.removesuffix(LORA_A)
            update = torch.from_numpy(scale * weights[stem + LORA_B] @ weights[name])
            layer = _linear(backbone, stem.removeprefix(_PEFT_PREFIX), update.shape)
            layer.weight.add_(update.to(backbone.device, backbone.dtype))
    setattr(backbone, _MERGED, True)


def check_unmerged(backbone: Any) -> None:
    """Refuse a backbone that ``merge_lora`` has changed.

    Raises:
        ValueError: for such a backbone.
    """
    if getattr(backbone, _MERGED, False):
        raise ValueError("the backbone has LoRA in its weights: load it again for another model")


def _linear(backbone: Any, name: str, shape: torch.Size) -> nn.Linear:
    try:
        layer = backbone.get_submodule(name)
    except AttributeError:
        layer = None
    if not isinstance(layer, nn.Linear) or layer.weight.shape != shape:
        raise ArtifactError(f"LoRA adapts {name!r}, shape {tuple(shape)}: the backbone has no such linear layer")
    return layer
