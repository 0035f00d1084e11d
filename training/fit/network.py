"""The network before training: first prompt or LoRA layers, and a head that starts from the label names."""

from __future__ import annotations

import torch

from ptec_udf.model.network import PtecNetwork
from training.data.dataset import Rows
from training.fit.forward import feature_function, forward_batches
from training.fit.head import StandardisedHead, initial_attention, positive_weights
from training.fit.inputs import TrainingInputs
from training.fit.lora import add_lora
from training.fit.prompt import initial_prompt

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
        network.attention = initial_attention(len(inputs.label_names), head.deviation).to(network.device)
    network.head = head.to(network.device)
    return network


def _initial_head(inputs: TrainingInputs, rows: Rows, network: PtecNetwork) -> StandardisedHead:
    """Make a head whose biases are the labels' weighted base rates, and whose weights point to their names."""
    forward, n_tokens = feature_function(network, inputs.bfloat16), inputs.config.optimiser.micro_batch_tokens
    share, weights = rows.targets.mean(axis=0), positive_weights(rows.targets, inputs.config.loss)
    weighted = share * weights / (share * weights + 1 - share)
    names = [text.ids or [inputs.encoder.pad_id] for text in inputs.encoder.encode(inputs.label_names)]
    return StandardisedHead(
        torch.from_numpy(forward_batches(forward, rows.inputs[:_MAX_ROWS_FOR_SCALING], n_tokens)),
        torch.from_numpy(weighted).float(),
        torch.from_numpy(forward_batches(forward, names, n_tokens)),
        inputs.config.head_dropout,
    )
