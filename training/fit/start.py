"""Where a training starts: first prompt, first head, weights of positives, in a trainer that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ptec_udf.engine.device import has_bfloat16
from ptec_udf.engine.encoder import Encoder
from ptec_udf.model.network import PtecNetwork
from training.config import TrainConfig
from training.data.dataset import Rows
from training.fit import lora
from training.fit.checkpoint import Checkpoint
from training.fit.forward import Forward, attend_in_parts, autocast_forward, over_rows
from training.fit.head import StandardisedHead, initial_attention
from training.fit.loss import positive_weights
from training.fit.prompt import initial_prompt
from training.fit.trainer import Trainer
from training.fit.warm import Earlier
from training.processes.group import ALONE, Group

_ROWS_FOR_SCALING = 512


@dataclass(frozen=True)
class Start:
    """What every training of one run has in common; one trainer is in use at a time.

    Attributes:
        config: the configuration.
        backbone: the frozen language model.
        encoder: its tokeniser.
        names: the labels, in order.
        earlier: the model whose weights all of them start from.
        auxiliary: the labels that are learned beside, in order.
        group: the processes that train together.
    """

    config: TrainConfig
    backbone: Any
    encoder: Encoder
    names: list[str]
    earlier: Earlier | None = None
    auxiliary: list[str] = field(default_factory=list)
    group: Group = ALONE

    @property
    def bfloat16(self) -> bool:
        """Whether the backbone computes in bfloat16."""
        dtype = self.config.dtype
        return has_bfloat16(self.backbone.device.type) if dtype == "auto" else dtype == "bfloat16"

    @property
    def arithmetic(self) -> str:
        """Where and in what the backbone computes: what another machine may do otherwise by more than last digits."""
        return f"{self.backbone.device.type} {'bfloat16' if self.bfloat16 else 'float32'}"

    def trainer(self, rows: Rows, validation: Rows | None, epochs: int, checkpoint: Checkpoint) -> Trainer:
        """Make a trainer on some rows, from the start; arguments as in ``Trainer``."""
        weights = positive_weights(rows.targets, self.config.loss)
        of_auxiliary = None if rows.auxiliary is None else positive_weights(rows.auxiliary, self.config.loss)
        network = self._network(rows, weights, of_auxiliary)
        return Trainer(
            network=network,
            rows=rows,
            validation=validation,
            weights=_tensor(weights, network),
            config=self.config,
            bfloat16=self.bfloat16,
            checkpoint=checkpoint,
            epochs=epochs,
            auxiliary_weights=None if of_auxiliary is None else _tensor(of_auxiliary, network),
            group=self.group,
        )

    def _network(self, rows: Rows, weights: np.ndarray, of_auxiliary: np.ndarray | None) -> PtecNetwork:
        """Make the network with its first prompt, or LoRA layers, and its first head."""
        config, generator = self.config, torch.Generator().manual_seed(self.config.seed)
        kind, prompt = None, None
        attend_in_parts(self.backbone, self.bfloat16)
        if config.lora is not None:
            lora.put_into(self.backbone, config.lora, config.seed)
        elif config.prompt.kind != "none":
            kind = config.prompt.kind
            prompt = initial_prompt(config.prompt, self.backbone, self.encoder.tokenizer, self.names, generator)
        network = PtecNetwork(
            backbone=self.backbone,
            kind=kind,
            prompt=prompt,
            head=torch.nn.Identity(),  # until its scaling is known, the network gives features
            pooling=config.pooling,  # of label attention the mean, until its units are known
            n_upper=config.adapter.upper_layers,
        )
        if self.earlier is not None:
            self.earlier.put_into(network)
        forward = autocast_forward(network, self.bfloat16)
        budget = config.optimiser.micro_batch_tokens
        features = self.group.over(lambda some: over_rows(forward, some, budget), rows.inputs[:_ROWS_FOR_SCALING])

        def first_head(names: list[str], targets: np.ndarray, weights: np.ndarray) -> StandardisedHead:
            share = np.nanmean(targets, axis=0)
            weighted = share * weights / (share * weights + 1 - share)
            return StandardisedHead(
                torch.from_numpy(features),
                torch.from_numpy(weighted).float(),
                generator,
                config.head_dropout,
                self._features_of_names(names, forward),
            )

        head = first_head(self.names, rows.targets, weights)
        if config.pooling == "label_attention":
            network.attention = initial_attention(len(self.names), head.deviation).to(network.device)
        if self.earlier is not None:
            self.earlier.put_into_head(head, network.attention, self.names)
        if rows.auxiliary is not None and of_auxiliary is not None:
            head.auxiliary = first_head(self.auxiliary, rows.auxiliary, of_auxiliary)
        network.head = head.to(network.device)
        return network

    def _features_of_names(self, names: list[str], forward: Forward) -> torch.Tensor | None:
        """Return features of names as texts, *Shape:* ``(n_names, width)``, where heads start from them."""
        if self.config.head_init != "labels":
            return None
        ids = [text.ids or [self.encoder.pad_id] for text in self.encoder.encode(names)]
        return torch.from_numpy(over_rows(forward, ids, self.config.optimiser.micro_batch_tokens))


def _tensor(weights: np.ndarray, network: PtecNetwork) -> torch.Tensor:
    return torch.from_numpy(weights).float().to(network.device)
