"""The classification head in training: a linear layer on standardised features, and the weights of its positives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ptec_training.config import LossConfig
from ptec_udf.model.network import Head, PtecNetwork

MIN_RELATIVE_DEVIATION = 0.1
"""Smallest deviation of a feature, in units of the median; a feature that hardly varies would become noise."""


def positive_weights(targets: np.ndarray, config: LossConfig) -> np.ndarray:
    """Weight rare labels' positives: (largest count / count) ** power, at most the cap; *Shape:* ``(n_labels,)``.

    Power 1 is the paper's weight (arXiv 2309.12075, section 3). Targets have *Shape:* ``(n_rows, n_labels)``.
    """
    counts = targets.sum(axis=0)
    weights = (counts.max() / np.maximum(counts, 1e-9)) ** config.pos_weight_power
    return np.minimum(weights, config.pos_weight_cap)


class StandardisedHead(nn.Module):
    """Standardise features, apply dropout in training, apply a linear layer."""

    def __init__(
        self, features: torch.Tensor, base_rates: torch.Tensor, label_features: torch.Tensor, dropout: float = 0.0
    ) -> None:
        """Fit the scaling to features of training rows, *Shape:* ``(n_rows, width)``.

        Biases start at ``base_rates``, the share of positives, weighted as in the loss, *Shape:* ``(n_labels,)``;
        weights point to the features of the label names, *Shape:* ``(n_labels, width)``.
        """
        super().__init__()
        deviation = features.std(dim=0)
        self.mean = nn.Buffer(features.mean(dim=0))
        self.deviation = nn.Buffer(deviation.clamp(min=MIN_RELATIVE_DEVIATION * deviation.median()))
        self.dropout = nn.Dropout(dropout)
        self.linear = Head(features.shape[1], len(base_rates))
        with torch.no_grad():
            self.linear.weight.copy_(self._towards(label_features, features))
            self.linear.bias.copy_(torch.logit(base_rates, eps=1e-4))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits, *Shape:* ``(batch, n_labels)``; features as of ``Head``."""
        return self.linear(self.dropout((features - self.mean) / self.deviation))

    def _towards(self, label_features: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return weights that point to the labels' names, with which logits of ``features`` have deviation 1."""
        names = (label_features - self.mean) / self.deviation
        if len(names) > 1:
            names = names - names.mean(dim=0)  # the part that all names share does not tell labels apart
        directions = nn.functional.normalize(names)
        return directions / (((features - self.mean) / self.deviation) @ directions.T).std()

    @torch.no_grad()
    def fused(self) -> Head:
        """Return one linear layer on raw features with the same logits."""
        n_labels, width = self.linear.weight.shape
        fused = Head(width, n_labels, device=self.mean.device)
        fused.weight.copy_(self.linear.weight / self.deviation)
        fused.bias.copy_(self.linear.bias - fused.weight @ self.mean)
        return fused


def fused_head(networks: Sequence[PtecNetwork]) -> dict[str, torch.Tensor]:
    """Return the head of trained networks on raw features; for names and shapes see ``ptec_udf/model/artifact.py``."""
    heads = []
    for network in networks:
        assert isinstance(network.head, StandardisedHead)
        head = {name: value.detach().cpu() for name, value in network.head.fused().named_parameters()}
        if network.attention is not None:
            head["queries"] = network.attention.raw_queries().detach().cpu()
        heads.append(head)
    return heads[0] if len(heads) == 1 else {name: torch.stack([head[name] for head in heads]) for name in heads[0]}
