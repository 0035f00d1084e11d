"""The network before training: first prompt or LoRA layers, and a head that starts from the label names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ptec_udf.model.network import PtecNetwork
from training.data.dataset import Rows
from training.fit.distributed import gather_rows, own_share
from training.fit.forward import Forward, feature_function, forward_batches, use_eager_attention
from training.fit.head import StandardisedHead, initial_attention
from training.fit.inputs import TrainingInputs
from training.fit.lora import add_lora
from training.fit.loss import positive_weights
from training.fit.prompt import initial_prompt

_MAX_ROWS_FOR_SCALING = 512


def initial_network(inputs: TrainingInputs, rows: Rows, seed: int) -> PtecNetwork:
    """Make the network that a training on some rows starts from."""
    config, backbone = inputs.config, inputs.backbone
    use_eager_attention(backbone, inputs.bfloat16)
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
    forward, n_tokens = feature_function(network, inputs.bfloat16), config.optimiser.micro_batch_tokens
    sample = rows.inputs[:_MAX_ROWS_FOR_SCALING]
    own = forward_batches(forward, own_share(sample), n_tokens)
    features = torch.from_numpy(gather_rows(own, len(sample)))
    head = _initial_head(inputs, inputs.label_names, rows.targets, features, forward)
    if config.pooling == "label_attention":
        network.attention = initial_attention(len(inputs.label_names), head.deviation).to(network.device)
    network.head = head.to(network.device)
    return network


def _initial_head(
    inputs: TrainingInputs, names: Sequence[str], targets: np.ndarray, features: torch.Tensor, forward: Forward
) -> StandardisedHead:
    """Make a head whose biases are the labels' weighted base rates, and whose weights point to their names."""
    share, weights = np.mean(targets, axis=0), positive_weights(targets, inputs.config.loss)
    weighted = share * weights / (share * weights + 1 - share)
    ids = [text.ids or [inputs.encoder.pad_id] for text in inputs.encoder.encode(names)]
    label_features = forward_batches(forward, ids, inputs.config.optimiser.micro_batch_tokens)
    return StandardisedHead(
        features,
        torch.from_numpy(weighted).float(),
        torch.from_numpy(label_features),
        inputs.config.head_dropout,
    )
