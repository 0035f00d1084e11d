"""The soft prompt before training, and checks of whether a prompt suits a backbone.

PEFT's own initialisation from a text keeps special tokens such as [CLS], so the embeddings are selected here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ptec_training.config import PromptConfig, Recipe
from ptec_training.fit.lora import add_lora
from ptec_udf.errors import ConfigError, collect_errors
from ptec_udf.model.manifest import PromptSpec
from ptec_udf.model.mpnet import is_mpnet
from ptec_udf.model.network import accepts_keys_values, compute_keys_values
from ptec_udf.model.prefix import BackboneShape, join_deep_prompt


@torch.no_grad()
def initial_prompt(
    config: PromptConfig, backbone: Any, tokenizer: Any, labels: Sequence[str], generator: torch.Generator
) -> torch.Tensor:
    """Make the prompt's first weight from the label names, in PEFT's layout, float32.

    *Shape:* ``(n_tokens, width)`` for an input prompt, ``(n_tokens, n_layers * 2 * n_heads * head_width)`` for a deep
    one, which starts as the keys and values of one pass over the embeddings.
    """
    table = backbone.get_input_embeddings().weight
    embeddings = table[_token_ids(labels, tokenizer, config.n_tokens, generator)]
    if config.kind != "deep":
        return embeddings.float().clone()
    of_layers = compute_keys_values(backbone, embeddings)
    return join_deep_prompt(of_layers[-(config.n_upper_layers or 0) :]).float()


def _token_ids(texts: Sequence[str], tokenizer: Any, n_tokens: int, generator: torch.Generator) -> torch.Tensor:
    """Return the tokens of all texts in order: a random subset if there are too many, repeated if too few."""
    per_text = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
    ids = torch.tensor([token for tokens in per_text for token in tokens], dtype=torch.long)
    if len(ids) == 0:
        raise ConfigError("the label names must have at least one token, from which the prompt starts; rename labels")
    if len(ids) > n_tokens:
        return ids[torch.randperm(len(ids), generator=generator)[:n_tokens].sort().values]
    return ids.repeat(-(-n_tokens // len(ids)))[:n_tokens]


def prompt_spec(config: PromptConfig, caches_prompt: bool) -> PromptSpec:
    """Describe a prompt for the manifest."""
    return PromptSpec(
        kind="deep" if config.kind == "deep" else "input",
        n_tokens=config.n_tokens,
        attention="prefix" if caches_prompt else "full",
        upper_layers=config.n_upper_layers,
    )


def check_backbone(recipe: Recipe, backbone: Any) -> None:
    """Raise a ConfigError with all settings that do not suit the backbone."""
    n_prompt = recipe.prompt.n_tokens if recipe.has_prompt else 0
    errors = [*_adapter_errors(recipe, backbone), *_position_errors(n_prompt, backbone, recipe.max_tokens)]
    if recipe.lora is not None:
        with collect_errors(errors):
            add_lora(backbone, recipe.lora, seed=0)  # refuses missing modules; the change is zero at first
    if errors:
        raise ConfigError(errors)


def check_positions(backbone: Any, max_tokens: int) -> None:
    """Raise a ConfigError where texts may be longer than the backbone's positions."""
    if errors := list(_position_errors(0, backbone, max_tokens)):
        raise ConfigError(errors)


def _adapter_errors(recipe: Recipe, backbone: Any) -> Iterator[str]:
    family = backbone.config.model_type
    if recipe.has_prompt and recipe.prompt.kind == "deep" and not accepts_keys_values(backbone):
        yield f"prompt.kind deep needs a backbone that takes keys and values, was: {family}; use kind: input"
    n_upper, n_layers = recipe.adapter.n_upper_layers, BackboneShape.of(backbone).n_layers
    name = "prompt.n_upper_layers" if recipe.lora is None else "lora.n_upper_layers"
    if n_upper is not None and not is_mpnet(backbone):
        yield f"{name} must be null except for MPNet, was: {n_upper} for {family}"
    elif n_upper is not None and n_upper > n_layers:
        yield f"{name} must be at most {n_layers}, the backbone's layers, was: {n_upper}"


def _position_errors(n_prompt: int, backbone: Any, max_tokens: int) -> Iterator[str]:
    n_positions = getattr(backbone.config, "max_position_embeddings", None)
    embeddings = getattr(getattr(backbone, "embeddings", None), "position_embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    if n_positions is not None and padding is not None:
        n_positions -= padding + 1  # the RoBERTa family's positions begin after the padding's
    if n_positions is not None and max_tokens + n_prompt > n_positions:
        yield (
            f"max_tokens + prompt.n_tokens must be at most {n_positions}, the positions of this backbone, "
            f"was: {max_tokens} + {n_prompt}"
        )
