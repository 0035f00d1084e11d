"""LoRA layers by PEFT, trained in place of a prompt.

PEFT keeps the layers and the files; the forward pass stays ours, as for prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from ptec_udf.errors import ConfigError
from training.config import LoraSettings

_ADAPTER = "default"


def put_into(backbone: Any, settings: LoraSettings, seed: int) -> None:
    """Give a backbone fresh LoRA layers, in place of those that it has.

    The change that they make is zero at first; only they are trained.

    Raises:
        ConfigError: for layers that are not there or not linear, or a family for which PEFT names no layers.
    """
    with torch.random.fork_rng():
        if not _layers(backbone):
            _inject(backbone, settings)
        torch.manual_seed(seed)
        for layer in _layers(backbone).values():
            layer.reset_lora_parameters(_ADAPTER, init_lora_weights=True)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def peft_config(rank: int, alpha: int, layers: Sequence[str] | None, at: Sequence[int] | None = None) -> LoraConfig:
    """Make PEFT's configuration.

    Args:
        rank: of each change.
        alpha: a change counts alpha / rank times.
        layers: kinds of layers, or full names; None: those of the family, queries and values in most.
        at: numbers of the backbone's blocks that are changed; None: all.
    """
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=None if layers is None else list(layers),
        layers_to_transform=None if at is None else list(at),
        task_type="FEATURE_EXTRACTION",
    )


def weights(backbone: Any) -> dict[str, torch.Tensor]:
    """Return the layers' weights under the names of PEFT's own files."""
    return {
        f"base_model.model.{name.replace(f'.{_ADAPTER}.', '.')}": parameter.detach()
        for name, parameter in backbone.named_parameters()
        if ".lora_" in name
    }


def changed_layers(backbone: Any) -> list[str]:
    """Return the full names of the layers that were given LoRA."""
    return sorted(_layers(backbone))


def _inject(backbone: Any, settings: LoraSettings) -> None:
    """Let PEFT put its layers around those of the backbone, and check that scoring can add them in."""
    linear = {name for name, module in backbone.named_modules() if type(module) is nn.Linear}
    n_layers = backbone.config.num_hidden_layers
    upper = None if settings.upper_layers is None else range(n_layers - settings.upper_layers, n_layers)
    if upper is not None and linear & set(settings.layers or []):
        raise ConfigError(
            f"lora.layers must be kinds of layers where lora.upper_layers chooses among them, was: {settings.layers}; "
            "give their last names, as in [q, v]"
        )
    try:
        inject_adapter_in_model(peft_config(settings.rank, settings.alpha, settings.layers, upper), backbone)
    except ValueError:
        changed, missing = set[str](), settings.layers or ["null"]
    else:
        changed = set(_layers(backbone))
        missing = [kind for kind in settings.layers or [] if not any(_is_kind(name, kind) for name in changed)]
    if missing or not changed <= linear:
        kinds = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise ConfigError(
            f"lora.layers must be linear layers of the backbone, or null where PEFT knows the family, "
            f"was: {settings.layers} for {backbone.config.model_type}, whose linear layers are: {kinds or 'none'}"
        )


def _layers(backbone: Any) -> dict[str, LoraLayer]:
    """The layers with LoRA, by name."""
    return {name: module for name, module in backbone.named_modules() if isinstance(module, LoraLayer)}


def _is_kind(name: str, kind: str) -> bool:
    """Tell whether PEFT takes a layer for one that was asked for."""
    return name == kind or name.endswith(f".{kind}")
