"""From a text's hidden states to one logit for each label.

Source of the attention: Mullenbach et al., "Explainable Prediction of Medical Codes from Clinical Text", NAACL 2018
(arXiv 1802.05695), section 2.2, here on a language model's hidden states.
"""

from __future__ import annotations

import torch
from torch import nn


class LabelAttention(nn.Module):
    """Average a text's hidden states once for each label, by weights of that label's own.

    Attributes:
        queries: one of each label, *Shape:* ``(n_labels, n_features)``; of zeros, all positions weigh the same.
        unit: what queries are multiplied by, so that one learning rate suits hidden states of any size.
    """

    def __init__(self, queries: torch.Tensor, unit: float = 1.0) -> None:
        """Take the queries."""
        super().__init__()
        self.queries = nn.Parameter(queries)
        self.unit = unit

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool hidden states of text positions, arguments as of ``weights``.

        Returns:
            *Shape:* ``(batch, n_labels, n_features)``.
        """
        return self.weights(hidden, mask).transpose(1, 2) @ hidden

    def weights(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return how much each position counts for each label, *Shape:* ``(batch, length, n_labels)``.

        Args:
            hidden: *Shape:* ``(batch, length, n_features)``.
            mask: 1 at text positions, 0 at padding, *Shape:* ``(batch, length)``.
        """
        scores = hidden @ self.raw_queries().T
        return scores.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).softmax(dim=1)

    def raw_queries(self) -> torch.Tensor:
        """Return the queries that hidden states are multiplied by, *Shape:* ``(n_labels, n_features)``."""
        return self.queries * self.unit


class Head(nn.Linear):
    """One logit for each label, of features that all labels share or of each label's own."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits, *Shape:* ``(batch, n_labels)``.

        Args:
            features: *Shape:* ``(batch, n_features)``, or ``(batch, n_labels, n_features)`` as of ``LabelAttention``.
        """
        if features.dim() == 2:
            return super().forward(features)
        return (features * self.weight).sum(dim=-1) + self.bias

    def of_positions(self, hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the logits of attention's features without making them: with many labels they are large.

        Args:
            hidden: *Shape:* ``(batch, length, n_features)``.
            weights: of each position for each label, *Shape:* ``(batch, length, n_labels)``.
        """
        return (weights * nn.functional.linear(hidden, self.weight)).sum(dim=1) + self.bias
