"""A running mean of the weights, which is what is measured and kept.

With few examples and a high learning rate the weights wander around a good place; their mean is nearer
to it than where they stand after any step. Source: Polyak and Juditsky, "Acceleration of stochastic
approximation by averaging", SIAM J. Control Optim. 30, 1992; here with exponential decay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from training.fit.checkpoint import Weights


class WeightAverage:
    """Exponential running mean of some weights.

    Attributes:
        weights: the mean, under the names of the weights.
    """

    def __init__(self, now: Weights, decay: float) -> None:
        """Start at the weights; ``decay`` 0 follows them exactly."""
        self.now, self.decay = now, decay
        self.weights = {name: value.clone() for name, value in now.items()}

    @torch.no_grad()
    def update(self, n_steps: int) -> None:
        """Take in the weights after a step; early on the mean is over few steps, so that it forgets the start."""
        decay = min(self.decay, n_steps / (n_steps + 10))
        for name, mean in self.weights.items():
            mean.lerp_(self.now[name], 1 - decay)

    @contextmanager
    def in_place_of(self, now: Weights) -> Iterator[None]:
        """Put the mean into the network while the block runs."""
        kept = {name: value.clone() for name, value in now.items()}
        put(self.weights, now)
        yield
        put(kept, now)


@torch.no_grad()
def put(source: Weights, target: Weights) -> None:
    """Copy values into existing tensors of the same names."""
    for name, value in target.items():
        value.copy_(source[name])
