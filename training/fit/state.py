"""The state of a training: numbers, weights and the optimiser's moments, saved after each epoch.

A killed training resumes and ends as an undisturbed one. No random state is saved, since every epoch draws from the
seed and its own number.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ptec_udf.log import logger

Weights = dict[str, torch.Tensor]

_FIRST_STEPS = 10  # early on the average is over fewer steps, so that it forgets the start


@dataclass
class TrainingState:
    """How far a training is: epochs count from 1; ``best_value`` is None where nothing is measured yet."""

    epoch: int = 0
    n_steps: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)


class TrackedWeights:
    """Weights in training, their exponential moving average, and the average after the best epoch.

    With few examples and a high learning rate the weights move around an optimum, and their mean is nearer to it.
    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    """

    def __init__(self, current: Weights, decay: float) -> None:
        self.current, self.decay = current, decay
        self.average, self.best = ({name: value.clone() for name, value in current.items()} for _ in range(2))
        self.kinds = {"current": self.current, "average": self.average, "best": self.best}

    @torch.no_grad()
    def update(self, n_steps: int) -> None:
        """Include the weights after a step."""
        decay = min(self.decay, n_steps / (n_steps + _FIRST_STEPS))
        for name, mean in self.average.items():
            mean.lerp_(self.current[name], 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the average into the network while the block runs."""
        kept = {name: value.clone() for name, value in self.current.items()}
        copy_weights(self.average, self.current)
        yield
        copy_weights(kept, self.current)


@torch.no_grad()
def copy_weights(source: Weights, target: Weights) -> None:
    """Copy values into existing tensors of the same names."""
    for name, value in target.items():
        value.copy_(source[name])


class Checkpoint:
    """One safetensors file, whose metadata has the numbers; its name identifies the training."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def save(self, state: TrainingState, weights: TrackedWeights, optimiser: torch.optim.Optimizer) -> None:
        """Write everything; a kill while writing leaves the previous state."""
        values = optimiser.state_dict()
        kinds = weights.kinds | {str(index): moments for index, moments in values["state"].items()}
        tensors = {
            f"{kind}/{name}": tensor.detach().cpu().contiguous()
            for kind, named in kinds.items()
            for name, tensor in named.items()
        }
        numbers = {"state": json.dumps(asdict(state)), "groups": json.dumps(values["param_groups"])}
        partial = self.file.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata=numbers)
        os.replace(partial, self.file)

    def load(self, weights: TrackedWeights, optimiser: torch.optim.Optimizer) -> TrainingState:
        """Put saved weights and moments into place; return how far training was, at its start without a usable file."""
        if not self.file.exists():
            return TrainingState()
        kinds: defaultdict[str, Weights] = defaultdict(dict)
        try:
            with safe_open(self.file, "pt") as content:
                numbers = {name: json.loads(value) for name, value in content.metadata().items()}
                for key in content.keys():  # noqa: SIM118
                    kind, _, name = key.partition("/")
                    kinds[kind][name] = content.get_tensor(key)
        except (OSError, SafetensorError):
            logger.warning(f"checkpoint {str(self.file)!r} cannot be read; training restarts")
            return TrainingState()
        for kind, current in weights.kinds.items():
            copy_weights(kinds.pop(kind), current)
        moments = {int(index): of_parameter for index, of_parameter in kinds.items()}
        optimiser.load_state_dict({"state": moments, "param_groups": numbers["groups"]})
        return TrainingState(**numbers["state"])
