"""Several prompts and heads on one backbone as one model, whose logits are the mean of theirs.

Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS
2017 (arXiv 1612.01474); here the members share their frozen backbone. Scoring takes one pass per member.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ptec_udf.model.network import PtecNetwork


class MeanNetwork(nn.Module):
    """Map token ids to the mean of the members' logits; the members share one backbone."""

    def __init__(self, networks: Sequence[PtecNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    @property
    def members(self) -> list[PtecNetwork]:
        """The networks whose logits are averaged."""
        return [network for network in self.networks if isinstance(network, PtecNetwork)]

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.members[0].device

    @property
    def caches_prompt(self) -> bool:
        """Whether the prompts' keys and values are the same for all texts."""
        return self.members[0].caches_prompt

    def freeze_prompt(self) -> None:
        """Compute the prompts' keys and values once, for scoring."""
        for network in self.members:
            network.freeze_prompt()

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return logits, *Shape:* ``(batch, n_labels)``, in float32; for the arguments see ``PtecNetwork``."""
        return torch.stack([network(input_ids, mask) for network in self.members]).mean(dim=0)


def build_ensemble(networks: Sequence[PtecNetwork]) -> PtecNetwork | MeanNetwork:
    """Return the only network, or the mean of several."""
    return networks[0] if len(networks) == 1 else MeanNetwork(networks)
