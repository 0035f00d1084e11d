"""Low-rank updates of a backbone's weights, merged before scoring, so that they cost nothing at scoring.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import LORA_A, LORA_B, Artifact

_PEFT_PREFIX = "base_model.model."


@torch.no_grad()
def merge_lora(backbone: Any, artifact: Artifact) -> None:
    """Add ``alpha / rank * B @ A`` to the weights of each adapted layer; nothing without LoRA.

    Args:
        backbone: a transformers model that no other model uses; its weights are changed.
        artifact: its A have *Shape:* ``(rank, n_inputs)``, its B ``(n_outputs, rank)``.

    Raises:
        ArtifactError: for a layer that the backbone does not have in this shape.
    """
    spec, weights = artifact.manifest.lora, artifact.adapter
    if spec is None:
        return
    modules = dict(backbone.named_modules())
    for name in (name.removesuffix(LORA_A) for name in weights if name.endswith(LORA_A)):
        update = torch.from_numpy(spec.alpha / spec.rank * weights[name + LORA_B] @ weights[name + LORA_A])
        layer = modules.get(name.removeprefix(_PEFT_PREFIX))
        if not isinstance(layer, nn.Linear) or layer.weight.shape != update.shape:
            raise ArtifactError(f"LoRA adapts {name!r}, shape {tuple(update.shape)}: the backbone has no such layer")
        layer.weight.add_(update.to(backbone.device, backbone.dtype))
