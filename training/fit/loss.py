"""The loss and the weights of positives."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from training.config import LossConfig


def positive_weights(targets: np.ndarray, config: LossConfig) -> np.ndarray:
    """Weight rare labels' positives: (largest count / count) ** power, at most the cap.

    Power 1 is the paper's weight (arXiv 2309.12075, section 3); lower powers temper it.

    Args:
        targets: training rows, *Shape:* ``(n_rows, n_labels)``.
        config: power and cap.

    Returns:
        *Shape:* ``(n_labels,)``.
    """
    counts = np.sum(targets, axis=0)
    weights = (counts.max() / np.maximum(counts, 1e-9)) ** config.pos_weight_power
    return np.minimum(weights, config.pos_weight_cap)


def loss_sum(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Add up every row's mean binary cross-entropy over labels.

    A sum, so that a step over several passes can divide by its number of rows once.

    Args:
        logits: *Shape:* ``(batch, n_labels)``.
        targets: 0 or 1, *Shape:* ``(batch, n_labels)``.
        weights: of positives, *Shape:* ``(n_labels,)``.
    """
    cells = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
    return cells.mean(dim=1).sum()
