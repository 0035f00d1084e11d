"""LoRA layers by PEFT, trained in place of a prompt.

PEFT keeps the layers and the files; the forward pass stays ours, as for prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from ptec_udf.errors import ConfigError
from training.args import LoraSettings

_ADAPTER = "default"


def put_into(backbone: Any, settings: LoraSettings, seed: int) -> None:
    """Give a backbone fresh LoRA layers, in place of those that it has.

    The change that they make is zero at first; only they are trained.

    Raises:
        ConfigError: for a family of models for which PEFT names no layers.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [module for module in backbone.modules() if isinstance(module, LoraLayer)]
        for layer in layers:
            layer.reset_lora_parameters(_ADAPTER, init_lora_weights=True)
        if not layers:
            try:
                inject_adapter_in_model(peft_config(settings.rank, settings.alpha, settings.layers), backbone)
            except ValueError:
                kinds = {name.rpartition(".")[2] for name, _ in backbone.named_modules() if "." in name}
                raise ConfigError(
                    f"lora.layers must name layers of the backbone, or be null where PEFT knows the family, was: "
                    f"{settings.layers} for {backbone.config.model_type}, which has {', '.join(sorted(kinds))}"
                ) from None
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def peft_config(rank: int, alpha: int, layers: Sequence[str] | None) -> LoraConfig:
    """Make PEFT's configuration; without ``layers`` it takes those of the family: queries and values in most."""
    target = None if layers is None else list(layers)
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=target, task_type="FEATURE_EXTRACTION")


def weights(backbone: Any) -> dict[str, torch.Tensor]:
    """Return the layers' weights under the names of PEFT's own files."""
    return {
        f"base_model.model.{name.replace(f'.{_ADAPTER}.', '.')}": parameter.detach()
        for name, parameter in backbone.named_parameters()
        if ".lora_" in name
    }


def changed_layers(backbone: Any) -> list[str]:
    """Return the kinds of layers that were given LoRA, for instance ``query`` and ``value``."""
    names = {name.rpartition(".")[2] for name, module in backbone.named_modules() if isinstance(module, LoraLayer)}
    return sorted(names)
