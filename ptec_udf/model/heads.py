"""From a text's hidden states to one logit per label.

Source of the attention: Mullenbach et al., "Explainable Prediction of Medical Codes from Clinical Text", NAACL 2018
(arXiv 1802.05695), section 2.2, here on a language model's hidden states.
"""

from __future__ import annotations

import torch
from torch import nn


class LabelAttention(nn.Module):
    """Average a text's hidden states once per label, by weights of each label.

    Attributes:
        queries: *Shape:* ``(n_labels, n_features)``; with zeros, all positions have equal weight.
        unit: factor of the queries, so that one learning rate suits hidden states of any size.
    """

    def __init__(self, queries: torch.Tensor, unit: float = 1.0) -> None:
        super().__init__()
        self.queries = nn.Parameter(queries)
        self.unit = unit

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool hidden states, *Shape:* ``(batch, n_labels, n_features)``; for the arguments see ``weights``."""
        return self.weights(hidden, mask).transpose(1, 2) @ hidden

    def weights(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the weight of each position for each label, *Shape:* ``(batch, length, n_labels)``.

        Args:
            hidden: *Shape:* ``(batch, length, n_features)``.
            mask: 1 at text positions, 0 at padding, *Shape:* ``(batch, length)``.
        """
        scores = hidden @ self.raw_queries().T
        return scores.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).softmax(dim=1)

    def raw_queries(self) -> torch.Tensor:
        """Return the queries times their unit, *Shape:* ``(n_labels, n_features)``."""
        return self.queries * self.unit


class Head(nn.Linear):
    """One logit per label, from features that all labels share or from each label's own."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits, *Shape:* ``(batch, n_labels)``.

        Args:
            features: *Shape:* ``(batch, n_features)``, or ``(batch, n_labels, n_features)`` from ``LabelAttention``.
        """
        if features.dim() == 2:
            return super().forward(features)
        return (features * self.weight).sum(dim=-1) + self.bias

    def attend(self, hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the logits of attended features without building the features, which are large with many labels.

        Args:
            hidden: *Shape:* ``(batch, length, n_features)``.
            weights: from ``LabelAttention.weights``, *Shape:* ``(batch, length, n_labels)``.
        """
        return (weights * nn.functional.linear(hidden, self.weight)).sum(dim=1) + self.bias
