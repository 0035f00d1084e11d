"""LoRA layers by PEFT, trained in place of a prompt; the forward pass stays ours, as for prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from ptec_training.config import LoraSettings
from ptec_udf.errors import ConfigError

_ADAPTER = "default"


def add_lora(backbone: Any, settings: LoraSettings, seed: int) -> None:
    """Add fresh LoRA layers, in place of earlier ones; only they are trained. May raise a ConfigError."""
    with torch.random.fork_rng():
        if not changed_modules(backbone):
            _inject(backbone, settings)
        torch.manual_seed(seed)
        for layer in backbone.modules():
            if isinstance(layer, LoraLayer):
                layer.reset_lora_parameters(_ADAPTER, init_lora_weights=True)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def peft_config(
    rank: int, alpha: int, modules: Sequence[str] | None, layers: Sequence[int] | None = None
) -> LoraConfig:
    """Make PEFT's configuration.

    ``modules`` are last or full names of linear layers (None: the family's default, queries and values in most),
    ``layers`` numbers of the backbone's layers that are changed (None: all).
    """
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=None if modules is None else list(modules),
        layers_to_transform=None if layers is None else list(layers),
        task_type="FEATURE_EXTRACTION",
    )


def lora_weights(backbone: Any) -> dict[str, torch.Tensor]:
    """Return the layers' weights under the names of PEFT's files."""
    return {
        f"base_model.model.{name.replace(f'.{_ADAPTER}.', '.')}": parameter.detach()
        for name, parameter in backbone.named_parameters()
        if ".lora_" in name
    }


def changed_modules(backbone: Any) -> list[str]:
    """Return the full names of the modules with LoRA."""
    return sorted(name for name, module in backbone.named_modules() if isinstance(module, LoraLayer))


def _inject(backbone: Any, settings: LoraSettings) -> None:
    """Wrap modules of the backbone, and check that they are linear, as scoring needs."""
    linear = {name for name, module in backbone.named_modules() if type(module) is nn.Linear}
    n_layers, modules = backbone.config.num_hidden_layers, settings.target_modules
    upper = None if settings.n_upper_layers is None else range(n_layers - settings.n_upper_layers, n_layers)
    if upper is not None and linear & set(modules or []):  # PEFT would change named modules of lower layers too
        raise ConfigError(
            f"lora.target_modules must be last names, such as [q, v], with lora.n_upper_layers, was: {modules}"
        )
    try:
        inject_adapter_in_model(peft_config(settings.rank, settings.alpha, modules, upper), backbone)
        changed = changed_modules(backbone)
    except ValueError:  # PEFT found no module
        changed = []
    missing = [wanted for wanted in modules or [] if not any(f".{name}".endswith(f".{wanted}") for name in changed)]
    if missing or not changed or not linear.issuperset(changed):
        kinds = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise ConfigError(
            f"lora.target_modules must be linear layers of the backbone, or null where PEFT has a default, "
            f"was: {modules} for {backbone.config.model_type}, whose linear layers are: {kinds or 'none'}"
        )
