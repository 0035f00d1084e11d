"""The loss and the weight of positives, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.config import LossConfig
from training.fit.loss import loss_sum, positive_weights


@pytest.mark.parametrize(
    ("power", "cap", "expected"),
    [(0.5, 20, [1, 2, 10, 20]), (1, 50, [1, 4, 50, 50]), (0, 20, [1, 1, 1, 1]), (0.5, 1, [1, 1, 1, 1])],
)
def test_positive_weights(power, cap, expected):
    targets = np.zeros((100, 4), np.float32)
    for label, count in enumerate((100, 25, 1, 0)):
        targets[:count, label] = 1
    weights = positive_weights(targets, LossConfig(pos_weight_power=power, pos_weight_cap=cap))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_class_balanced_weights_level_off():
    targets = np.zeros((400, 4), np.float32)
    for label, count in enumerate((400, 200, 10, 1)):
        targets[:count, label] = 1
    config = LossConfig(pos_weight_power=1, pos_weight_cap=1e9, pos_weight_beta=0.9)
    effective = (1 - 0.9 ** np.array([400, 200, 10, 1])) / (1 - 0.9)
    np.testing.assert_allclose(positive_weights(targets, config), effective[0] / effective, rtol=1e-5)


def test_loss_adds_up_rows_and_averages_labels():
    logits, targets = torch.tensor([[0.0, 2.0], [-1.0, 0.5]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    weights = torch.tensor([3.0, 1.0])
    chance = torch.sigmoid(logits)
    cells = -(weights * targets * chance.log() + (1 - targets) * (1 - chance).log())
    torch.testing.assert_close(loss_sum(logits, targets, weights), cells.mean(dim=1).sum())


def test_focus_and_margin_give_focal_and_asymmetric_loss():
    logits, targets = torch.tensor([[0.0, 2.0], [-1.0, -4.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    weights, chance = torch.tensor([3.0, 1.0]), torch.sigmoid(logits)
    focal = -(weights * targets * (1 - chance) ** 2 * chance.log() + (1 - targets) * chance**2 * (1 - chance).log())
    found = loss_sum(logits, targets, weights, LossConfig(focus_positives=2, focus_negatives=2, pos_weight_power=0))
    torch.testing.assert_close(found, focal.mean(dim=1).sum())
    shifted = (chance - 0.05).clamp(min=0)
    asymmetric = -(weights * targets * chance.log() + (1 - targets) * shifted**4 * (1 - shifted).log())
    found = loss_sum(logits, targets, weights, LossConfig(focus_negatives=4, margin=0.05, pos_weight_power=0))
    torch.testing.assert_close(found, asymmetric.mean(dim=1).sum())


@pytest.mark.parametrize("settings", [{"focus_negatives": 0.5, "margin": 0.05}, {"focus_positives": 0.5}])
def test_gradients_of_a_focused_loss_stay_finite_at_the_ends(settings):
    logits = torch.tensor([[-200.0, 200.0, -40.0, 40.0]], requires_grad=True)
    for target in (0.0, 1.0):
        (gradient,) = torch.autograd.grad(
            loss_sum(logits, torch.full((1, 4), target), torch.ones(4), LossConfig(**settings, pos_weight_power=0)),
            logits,
        )
        assert torch.isfinite(gradient).all()
