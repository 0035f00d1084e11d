"""A moving average of the weights, which is what is evaluated and kept.

With few examples and a high learning rate the weights move around an optimum, and their mean is nearer to it. Source:
Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30, 1992.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from training.fit.checkpoint import Weights

_FIRST_STEPS = 10  # early on the mean is over fewer steps, so that it forgets the start


class WeightAverage:
    """Exponential moving average of weights.

    Attributes:
        weights: the average, under the names of the weights.
    """

    def __init__(self, current: Weights, decay: float) -> None:
        """Start at the weights; with ``decay`` 0 the average equals them."""
        self.current, self.decay = current, decay
        self.weights = {name: value.clone() for name, value in current.items()}

    @torch.no_grad()
    def update(self, n_steps: int) -> None:
        """Include the weights after a step."""
        decay = min(self.decay, n_steps / (n_steps + _FIRST_STEPS))
        for name, mean in self.weights.items():
            mean.lerp_(self.current[name], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the network while the block runs."""
        kept = {name: value.clone() for name, value in self.current.items()}
        copy_weights(self.weights, self.current)
        yield
        copy_weights(kept, self.current)


@torch.no_grad()
def copy_weights(source: Weights, target: Weights) -> None:
    """Copy values into existing tensors of the same names."""
    for name, value in target.items():
        value.copy_(source[name])
