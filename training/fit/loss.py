"""The loss and the weight of positives."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from training.config import LossConfig, PositiveWeights

_NEARLY_ZERO = 1e-8  # a root's gradient at 0 itself is infinite


def positive_weights(targets: np.ndarray, config: PositiveWeights) -> np.ndarray:
    """Weight rare labels' positives: (largest count / count) ** power, at most the cap.

    Power 1 is the paper's weight (arXiv 2309.12075, section 3); lower powers temper it. With ``beta``, counts are
    effective numbers, (1 - beta ** count) / (1 - beta): Cui et al., "Class-Balanced Loss Based on Effective Number of
    Samples", CVPR 2019 (arXiv 1901.05555).

    Args:
        targets: training rows, *Shape:* ``(n_rows, n_labels)``; NaN where unknown.
        config: power, cap and beta.

    Returns:
        *Shape:* ``(n_labels,)``; a label without positives gets the cap, as far as ``power`` lets it.
    """
    counts = np.nansum(targets, axis=0)
    if config.pos_weight_beta is not None:
        counts = np.expm1(np.float64(counts) * np.log(config.pos_weight_beta)) / (config.pos_weight_beta - 1)
    weights = (counts.max() / np.maximum(counts, 1e-9)) ** config.pos_weight_power
    return np.minimum(weights, config.pos_weight_cap)


def loss_sum(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, config: LossConfig | None = None
) -> torch.Tensor:
    """Add up every row's mean loss over labels.

    A sum, so that a step over several passes can divide by its number of rows once.

    Args:
        logits: *Shape:* ``(batch, n_labels)``.
        targets: 0 or 1, *Shape:* ``(batch, n_labels)``; a cell that is NaN is unknown, and its loss 0.
        weights: of positives, *Shape:* ``(n_labels,)``.
        config: focus and margin; None: plain binary cross-entropy.
    """
    known, targets = ~targets.isnan(), targets.nan_to_num()
    if config is None or not config.is_focused:
        cells = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
    else:
        cells = _focused(logits, targets, weights, config)
    return (cells * known).mean(dim=1).sum()


def _focused(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, config: LossConfig) -> torch.Tensor:
    """Return the loss of each cell, which counts less the surer it is.

    Equal focus on both sides is the focal loss: Lin et al., ICCV 2017 (arXiv 1708.02002). More focus on negatives,
    with a margin, is the asymmetric loss: Ridnik et al., ICCV 2021 (arXiv 2009.14119).
    """
    shifted = (torch.sigmoid(logits) - config.margin).clamp(min=_NEARLY_ZERO)
    # Where nothing is cut off, the logarithm is taken of the logit, which cannot round to 0.
    log_miss = torch.log1p(-shifted) if config.margin else functional.logsigmoid(-logits)
    missed = torch.sigmoid(-logits).clamp(min=_NEARLY_ZERO)
    of_positive = weights * missed**config.focus_positives * -functional.logsigmoid(logits)
    of_negative = shifted**config.focus_negatives * -log_miss
    return targets * of_positive + (1 - targets) * of_negative
