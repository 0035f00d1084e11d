"""A training that starts from an earlier model's weights: its prompt or LoRA, and the head of each label it knew.

It starts from the earlier model's first training, which has not seen the rows that are validation here; from its final
one, validation would be no stranger to it, and would judge too kindly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors.torch import load

from ptec_udf.errors import ConfigError
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact, load_artifact, prompt_names
from ptec_udf.model.artifact_format import CHOICE, PROMPT
from ptec_udf.model.ensemble import MeanNetwork
from ptec_udf.model.heads import LabelAttention
from ptec_udf.model.network import PtecNetwork
from training.config import TrainConfig
from training.data.provenance import Seen, seen_by, sources_of
from training.fit import lora
from training.fit.head import StandardisedHead, fused_head
from training.fit.prompt import prompts_of

_WEIGHT, _BIAS, _QUERIES = _HEAD = ("head.weight", "head.bias", "head.queries")


@dataclass(frozen=True)
class Earlier:
    """What a training starts from.

    Attributes:
        model_id: of the earlier model.
        labels: that it knew.
        tensors: prompt or LoRA under PEFT's names, and the head.
        seen: hashes of the rows that it has learned from; None where it does not say.
    """

    model_id: str
    labels: list[str]
    tensors: Mapping[str, torch.Tensor]
    seen: Seen | None = None

    def member(self, at: int, n_members: int) -> Earlier:
        """Return what one of several members starts from."""
        if n_members == 1:
            return self
        prompt = self.tensors[prompt_names(n_members)[at]]
        head = {name: self.tensors[name][at] for name in _HEAD if name in self.tensors}
        return replace(self, tensors={PROMPT: prompt} | head)

    @torch.no_grad()
    def put_into(self, network: PtecNetwork) -> None:
        """Put prompt or LoRA into a network.

        Raises:
            ConfigError: for LoRA on other layers.
        """
        targets = lora.weights(network.backbone) if network.prompt is None else {PROMPT: network.prompt.data}
        if unknown := set(targets) ^ (set(self.tensors) - set(_HEAD)):
            raise ConfigError(
                "lora.layers and lora.upper_layers must be those of the model to start from, "
                f"{len(unknown)} matrices stand in one only"
            )
        for name, target in targets.items():
            target.copy_(self.tensors[name])

    @torch.no_grad()
    def put_into_head(self, head: StandardisedHead, attention: LabelAttention | None, names: list[str]) -> None:
        """Carry over the weights of the labels that both know, under their names; the others stay as they are."""
        weight, bias = self.tensors[_WEIGHT], self.tensors[_BIAS]
        for at, name in enumerate(names):
            if name in self.labels:
                row = self.labels.index(name)
                head.linear.weight[at] = weight[row] * head.deviation
                head.linear.bias[at] = bias[row] + weight[row] @ head.mean
                if attention is not None:
                    attention.queries[at] = self.tensors[_QUERIES][row] / attention.unit


def read_earlier(config: TrainConfig, content_hash: str, record: dict[str, Any]) -> Earlier | None:
    """Read the model to start from, if one is named.

    Args:
        config: of the training to come.
        content_hash: of its backbone.
        record: of its extract.

    Raises:
        ArtifactError: for a folder that holds no whole artifact.
        ConfigError: naming everything in which the two models differ and must not.
    """
    if config.start_from is None:
        return None
    made = load_artifact(config.start_from)
    faults = [
        f"{name} must be that of the model to start from, {theirs}, was: {ours}"
        for name, ours, theirs in _compared(config, content_hash, record, made)
        if ours != theirs
    ]
    if not made.manifest.has_adapter and "courses" not in made.metrics:
        faults.append(
            "start_from must hold a model of ptec train, was one whose head has learned from this validation too: "
            f"{config.start_from!r}"
        )
    if faults:
        raise ConfigError(faults)
    if record["template"] != made.manifest.template:
        logger.warning(
            "the extract has another template than the model to start from: companies that this model has "
            "learned from may be in validation, and flatter what is chosen there"
        )
    if CHOICE in made.files:
        tensors = load(made.files[CHOICE])
    else:
        tensors = {**made.adapter, _WEIGHT: made.head_weight, _BIAS: made.head_bias}
        if made.head_queries is not None:
            tensors[_QUERIES] = made.head_queries
    return Earlier(made.model_id, [label.name for label in made.manifest.labels], tensors, seen_by(made))


def _compared(
    config: TrainConfig, content_hash: str, record: dict[str, Any], made: Artifact
) -> Iterator[tuple[str, Any, Any]]:
    """Yield what must be equal, with its value here and there."""
    theirs = made.manifest
    yield "backbone", content_hash[:16], theirs.backbone and theirs.backbone.content_hash[:16]
    yield "pooling", config.pooling, theirs.pooling
    yield "members with combine: logits", config.averaged_members, theirs.members or 1
    yield "lora.rank", config.lora and config.lora.rank, theirs.lora and theirs.lora.rank
    yield "lora.alpha", config.lora and config.lora.alpha, theirs.lora and theirs.lora.alpha
    prompt = config.prompt if config.has_prompt else None
    yield "prompt.kind", prompt and prompt.kind, theirs.prompt and theirs.prompt.kind
    yield "prompt.upper_layers", prompt and prompt.upper_layers, theirs.prompt and theirs.prompt.upper_layers
    yield "prompt.n_tokens", prompt and prompt.n_tokens, theirs.prompt and theirs.prompt.n_tokens
    # Rows of one table are parted by their texts, which the template makes.
    if sources_of(record) & {theirs.extract.source_id, theirs.extract.source}:
        yield "template of the extract", record["template"], theirs.template
    ours = config.stopping.validation_share
    yield "stopping.validation_share", ours, made.metrics.get("validation_share", ours)


def tensors_of(network: PtecNetwork | MeanNetwork) -> dict[str, torch.Tensor]:
    """Copy what was trained, under the names of an artifact's file ``choice.safetensors``."""
    adapter = prompts_of(network) or lora.weights(network.members[0].backbone)
    head = {f"head.{name}": value for name, value in fused_head(network).items()}
    return {name: value.detach().cpu().clone() for name, value in {**adapter, **head}.items()}
