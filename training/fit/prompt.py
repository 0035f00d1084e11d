"""Where a soft prompt starts from: our own tokens of the label names, a text, or random embeddings.

PEFT's own text initialisation keeps special tokens such as [CLS], and its random one has a norm many
times that of MiniLM's embeddings; so the embeddings are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import prompt_names
from ptec_udf.model.ensemble import MeanNetwork
from ptec_udf.model.manifest import PromptSpec
from ptec_udf.model.mpnet import is_mpnet
from ptec_udf.model.network import PtecNetwork, accepts_keys_values, compute_keys_values
from ptec_udf.model.prefix import BackboneShape, join_deep_prompt
from training.config import PromptConfig, Recipe


@torch.no_grad()
def initial_prompt(
    config: PromptConfig, backbone: Any, tokenizer: Any, labels: Sequence[str], generator: torch.Generator
) -> torch.Tensor:
    """Make the prompt's first weight, in PEFT's layout, float32.

    Returns:
        *Shape:* ``(n_tokens, width)`` for an input or prefix prompt, ``(n_tokens, n_layers * 2 * n_heads *
        head_width)`` for a deep one, which starts as the keys and values of one pass over the embeddings.

    Raises:
        ConfigError: for texts without any token.
    """
    table = backbone.get_input_embeddings().weight
    if config.init == "random":
        deviation, mean = table.std(dim=0), table.mean(dim=0)
        noise = torch.randn(config.n_tokens, table.shape[1], generator=generator)
        embeddings = mean + deviation * noise.to(table.device)
    else:
        texts = [config.text or ""] if config.init == "text" else list(labels)
        embeddings = table[_token_ids(texts, tokenizer, config.n_tokens, generator)]
    if config.kind != "deep":
        return embeddings.float().clone()
    of_layers = compute_keys_values(backbone, embeddings)
    return join_deep_prompt(of_layers[-(config.upper_layers or 0) :]).float()


def _token_ids(texts: Sequence[str], tokenizer: Any, n_tokens: int, generator: torch.Generator) -> torch.Tensor:
    """Tokens of all texts in order: a random subset where there are too many, repeated where too few."""
    per_text = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
    ids = torch.tensor([token for tokens in per_text for token in tokens], dtype=torch.long)
    if len(ids) == 0:
        raise ConfigError("the texts that the prompt starts from must have at least one token; use init: random")
    if len(ids) > n_tokens:
        kept = torch.randperm(len(ids), generator=generator)[:n_tokens].sort().values
        return ids[kept]
    return ids.repeat(-(-n_tokens // len(ids)))[:n_tokens]


def prompts_of(network: PtecNetwork | MeanNetwork) -> dict[str, torch.Tensor]:
    """Return the prompt of each member of a trained network under the names that an artifact gives them."""
    members = network.members
    named = zip(prompt_names(len(members)), members, strict=True)
    return {name: member.prompt.detach().cpu() for name, member in named if member.prompt is not None}


def prompt_form(config: PromptConfig, caches_prompt: bool) -> PromptSpec:
    """Describe a prompt for the manifest."""
    kind: Literal["input", "deep"] = "input" if config.kind == "input" else "deep"
    return PromptSpec(
        kind=kind,
        n_tokens=config.n_tokens,
        attention="prefix" if caches_prompt else "full",
        upper_layers=config.upper_layers,
    )


def check_kind(config: Recipe, backbone: Any) -> None:
    """Refuse a deep or prefix prompt on a backbone that cannot be given keys and values.

    Raises:
        ConfigError: naming the kind to use.
    """
    kind = config.prompt.kind
    if config.has_prompt and kind != "input" and not accepts_keys_values(backbone):
        raise ConfigError(
            f"prompt.kind {kind} needs a backbone that takes keys and values, was: {backbone.config.model_type}; "
            "use kind: input"
        )


def check_upper_layers(config: Recipe, backbone: Any) -> None:
    """Refuse a prompt, or LoRA, in some layers where all must have it, and in more layers than there are.

    Raises:
        ConfigError: naming the number and what it may be.
    """
    n_layers, name = config.adapter.upper_layers, config.upper_layers_name
    there = BackboneShape.of(backbone).n_layers
    if n_layers is not None and not is_mpnet(backbone):
        raise ConfigError(f"{name} must be null but for MPNet, was: {n_layers} for {backbone.config.model_type}")
    if n_layers is not None and n_layers > there:
        raise ConfigError(f"{name} must be at most {there}, the backbone's layers, was: {n_layers}")


def check_room(n_prompt: int, backbone: Any, max_tokens: int) -> None:
    """Refuse a text and prompt that together are longer than the backbone's positions.

    Raises:
        ConfigError: naming the three numbers.
    """
    most = getattr(backbone.config, "max_position_embeddings", None)
    embeddings = getattr(getattr(backbone, "embeddings", None), "position_embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    if most is not None and padding is not None:
        most -= padding + 1  # the RoBERTa family's positions begin after the padding's
    if most is not None and max_tokens + n_prompt > most:
        shape = BackboneShape.of(backbone)
        raise ConfigError(
            f"max_tokens + prompt.n_tokens must be at most {most}, the positions of this backbone "
            f"({shape.n_layers} layers, width {shape.width}), was: {max_tokens} + {n_prompt}"
        )
