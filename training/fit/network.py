"""The network before training, and forward passes over many tokenised rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ptec_training.data.dataset import Rows
from ptec_training.fit.head import StandardisedHead, positive_weights
from ptec_training.fit.inputs import TrainingInputs
from ptec_training.fit.lora import add_lora
from ptec_training.fit.prompt import initial_prompt
from ptec_udf.engine.encoder import length_sorted_batches
from ptec_udf.engine.torch_engine import pad
from ptec_udf.model.network import LabelAttention, PtecNetwork

Forward = Callable[[list[Any]], torch.Tensor]
"""From the inputs of rows to a tensor with a row for each."""

_MAX_ROWS_FOR_SCALING = 512


def initial_network(inputs: TrainingInputs, rows: Rows, seed: int) -> PtecNetwork:
    """Make the network that a training on some rows starts from."""
    config, backbone = inputs.config, inputs.backbone
    if inputs.bfloat16 and backbone.device.type == "cpu":
        backbone.set_attn_implementation("eager")  # the backward pass of fused attention is several times slower
    kind, prompt = None, None
    if config.lora is not None:
        add_lora(backbone, config.lora, seed)
    elif config.prompt.kind != "none":
        kind, generator = config.prompt.kind, torch.Generator().manual_seed(seed)
        prompt = initial_prompt(config.prompt, backbone, inputs.encoder.tokenizer, inputs.label_names, generator)
    network = PtecNetwork(
        backbone=backbone,
        kind=kind,
        prompt=prompt,
        head=torch.nn.Identity(),
        pooling=config.pooling,  # label attention is the mean until its units are known
        n_upper=config.adapter.n_upper_layers,
    )
    head = _initial_head(inputs, rows, network)
    if config.pooling == "label_attention":
        queries = torch.zeros(len(inputs.label_names), len(head.deviation))  # zero: the mean at first
        unit = 1 / (head.deviation.square().mean().sqrt() * len(head.deviation) ** 0.5)
        network.attention = LabelAttention(queries, unit.item()).to(network.device)
    network.head = head.to(network.device)
    return network


def _initial_head(inputs: TrainingInputs, rows: Rows, network: PtecNetwork) -> StandardisedHead:
    """Make a head whose biases are the labels' weighted base rates, and whose weights point to their names."""
    forward, n_tokens = feature_function(network, inputs.bfloat16), inputs.config.optimiser.micro_batch_tokens
    share, weights = rows.targets.mean(axis=0), positive_weights(rows.targets, inputs.config.loss)
    weighted = share * weights / (share * weights + 1 - share)
    names = [text.ids or [0] for text in inputs.encoder.encode(inputs.label_names)]
    return StandardisedHead(
        torch.from_numpy(forward_batches(forward, rows.inputs[:_MAX_ROWS_FOR_SCALING], n_tokens)),
        torch.from_numpy(weighted).float(),
        torch.from_numpy(forward_batches(forward, names, n_tokens)),
        inputs.config.head_dropout,
    )


def feature_function(network: PtecNetwork, bfloat16: bool) -> Forward:
    """Return a function from inputs to features, in float32; for their shape see ``PtecNetwork.features``."""
    device = network.device

    def forward(inputs: list[Any]) -> torch.Tensor:
        padded, mask = _pad(inputs)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return network.features(padded.to(device), mask.to(device))

    return forward


def _pad(inputs: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad token ids, or hidden states, to the longest row; return them with the mask that ``pad`` returns."""
    if not isinstance(inputs[0], torch.Tensor):
        return pad(inputs, 0)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in inputs], batch_first=True)
    return pad_sequence([row.float() for row in inputs], batch_first=True), mask


@torch.inference_mode()
def forward_batches(forward: Forward, inputs: Sequence[Any], batch_tokens: int) -> np.ndarray:
    """Apply a function to rows in length-sorted batches; the result has the rows' order."""
    parts: dict[int, np.ndarray] = {}
    for batch in length_sorted_batches([len(row) for row in inputs], batch_tokens):
        values = forward([inputs[at] for at in batch]).float().cpu().numpy()
        parts.update(zip(batch, values, strict=True))
    return np.stack([parts[at] for at in range(len(inputs))])
