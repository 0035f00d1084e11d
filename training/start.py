"""Where a training starts: first prompt, first head, weights of positives, in a trainer that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ptec_udf.engine.encode import Encoder
from ptec_udf.model.network import PtecNetwork
from training import lora
from training.args import TrainConfig
from training.checkpoint import Checkpoint
from training.data import Rows
from training.fit import Trainer
from training.forward import autocast_forward, has_bfloat16, over_rows
from training.group import ALONE, Group
from training.head import StandardisedHead
from training.loss import positive_weights
from training.prompt import initial_prompt
from training.warm import Earlier

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
        group: the processes that train together.
    """

    config: TrainConfig
    backbone: Any
    encoder: Encoder
    names: list[str]
    earlier: Earlier | None = None
    group: Group = ALONE

    def trainer(self, rows: Rows, tune: Rows | None, epochs: int, checkpoint: Checkpoint) -> Trainer:
        """Make a trainer on some rows, from the start; arguments as in ``Trainer``."""
        bfloat16 = (
            has_bfloat16(self.backbone.device.type) if self.config.dtype == "auto" else self.config.dtype == "bfloat16"
        )
        weights = positive_weights(rows.targets, self.config.loss)
        network = self._network(rows, weights, bfloat16)
        return Trainer(
            network=network,
            rows=rows,
            tune=tune,
            weights=torch.from_numpy(weights).float().to(network.device),
            config=self.config,
            bfloat16=bfloat16,
            checkpoint=checkpoint,
            epochs=epochs,
            group=self.group,
        )

    def _network(self, rows: Rows, weights: np.ndarray, bfloat16: bool) -> PtecNetwork:
        """Make the network with its first prompt, or LoRA layers, and its first head."""
        config, generator = self.config, torch.Generator().manual_seed(self.config.seed)
        kind, prompt = None, None
        if config.lora is not None:
            lora.put_into(self.backbone, config.lora, config.seed)
        else:
            kind = config.prompt.kind
            prompt = initial_prompt(config.prompt, self.backbone, self.encoder.tokenizer, self.names, generator)
        network = PtecNetwork(
            backbone=self.backbone,
            kind=kind,
            prompt=prompt,
            head=torch.nn.Identity(),  # until its scaling is known, the network gives features
            pooling=config.pooling,
        )
        if self.earlier is not None:
            self.earlier.put_into(network)
        forward = autocast_forward(network, bfloat16)
        budget = config.optimiser.micro_batch_tokens
        features = self.group.over(lambda ids: over_rows(forward, ids, budget), rows.ids[:_ROWS_FOR_SCALING])
        of_names = None
        if config.head_init == "labels":
            ids = [text.ids or [self.encoder.pad_id] for text in self.encoder.encode(self.names)]
            of_names = torch.from_numpy(over_rows(forward, ids, budget))
        share = rows.targets.mean(axis=0)
        weighted = share * weights / (share * weights + 1 - share)
        head = StandardisedHead(
            torch.from_numpy(features),
            torch.from_numpy(weighted).float(),
            generator,
            config.head_dropout,
            of_names,
        )
        if self.earlier is not None:
            self.earlier.put_into_head(head, self.names)
        network.head = head.to(network.device)
        return network
