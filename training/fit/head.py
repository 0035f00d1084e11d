"""The classification head while it is trained: a linear layer on standardised features."""

from __future__ import annotations

import torch
from torch import nn

from ptec_udf.model.ensemble import MeanNetwork
from ptec_udf.model.heads import Head, LabelAttention
from ptec_udf.model.network import PtecNetwork

# A feature that hardly varies is noise once divided by its deviation (MiniLM has three such).
LEAST_SHARE_OF_MEDIAN_DEVIATION = 0.1


class StandardisedHead(nn.Module):
    """Subtract a fixed mean, divide by a fixed deviation, drop some features in training, apply a linear layer.

    Attributes:
        auxiliary: a head of labels that are learned beside these and not exported; None: there are none.
    """

    def __init__(
        self,
        features: torch.Tensor,
        base_rates: torch.Tensor,
        generator: torch.Generator,
        dropout: float = 0.0,
        label_features: torch.Tensor | None = None,
    ) -> None:
        """Take the scaling from features; start near the labels' base rates.

        Args:
            features: of a sample of training rows, *Shape:* ``(n_rows, width)``.
            base_rates: share of positives, weighted as in the loss, *Shape:* ``(n_labels,)``.
            generator: decides the first weights.
            dropout: share of features that are left out while training.
            label_features: of the label names as texts, *Shape:* ``(n_labels, width)``; each label's first
                weights then point to where its name lies. None: small random ones.
        """
        super().__init__()
        deviation = features.std(dim=0)
        least = LEAST_SHARE_OF_MEDIAN_DEVIATION * deviation.median()
        self.mean = nn.Buffer(features.mean(dim=0))
        self.deviation = nn.Buffer(deviation.clamp(min=least))
        self.dropout = nn.Dropout(dropout)
        self.linear = Head(features.shape[1], len(base_rates))
        self.auxiliary: StandardisedHead | None = None
        with torch.no_grad():
            if label_features is None:
                self.linear.weight.normal_(std=0.01, generator=generator)
            else:
                self.linear.weight.copy_(self._towards(label_features, features))
            self.linear.bias.copy_(torch.logit(base_rates, eps=1e-4))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits, *Shape:* ``(batch, n_labels)``; features as of ``Head``."""
        return self.linear(self.dropout((features - self.mean) / self.deviation))

    def _towards(self, label_features: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return weights that point to the labels' names and spread the logits of ``features`` by 1."""
        names = (label_features - self.mean) / self.deviation
        if len(names) > 1:
            names = names - names.mean(dim=0)  # what the names have in common says nothing
        directions = nn.functional.normalize(names)
        return directions / (((features - self.mean) / self.deviation) @ directions.T).std()

    @torch.no_grad()
    def fused(self) -> Head:
        """Return one linear layer on raw features that gives the same logits."""
        n_labels, width = self.linear.weight.shape
        fused = Head(width, n_labels, device=self.mean.device)
        fused.weight.copy_(self.linear.weight / self.deviation)
        fused.bias.copy_(self.linear.bias - fused.weight @ self.mean)
        return fused


def initial_attention(n_labels: int, deviation: torch.Tensor) -> LabelAttention:
    """Make attention that is the mean at first.

    Args:
        n_labels: number of labels.
        deviation: of each feature, *Shape:* ``(n_features,)``; queries are in units that make scores of features as
            they come about 1.
    """
    unit = 1 / (deviation.square().mean().sqrt() * len(deviation) ** 0.5)
    return LabelAttention(torch.zeros(n_labels, len(deviation)), unit.item())


def fused_head(network: PtecNetwork | MeanNetwork) -> dict[str, torch.Tensor]:
    """Return a trained network's head as one linear layer on raw features.

    Returns:
        ``weight``, ``bias`` and, of label attention, ``queries``, *Shape:* as in ``Artifact``.
    """
    heads = []
    for member in network.members:
        if not isinstance(member.head, StandardisedHead):
            raise TypeError(f"network.head must be a StandardisedHead, was: {type(member.head).__name__}")
        head = {name: value.detach().cpu() for name, value in member.head.fused().named_parameters()}
        if member.attention is not None:
            head["queries"] = member.attention.raw_queries().detach().cpu()
        heads.append(head)
    return heads[0] if len(heads) == 1 else {name: torch.stack([head[name] for head in heads]) for name in heads[0]}
