"""The state of a training after each epoch, so that a killed training resumes and ends as an undisturbed one.

It is one safetensors file with the numbers in its metadata. No random state is needed, since every epoch draws from the
seed and its own number.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ptec_udf.log import logger

Weights = dict[str, torch.Tensor]


@dataclass
class TrainingState:
    """How far a training is.

    ``history`` has a record per epoch; ``best_epoch`` counts from 1, 0 means none yet. ``best_value`` is None before
    the first epoch, and where nothing is measured.
    """

    epoch: int = 0
    n_steps: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Checkpoint:
    """Saves and loads one training; a training with another fingerprint is not resumed."""

    def __init__(self, file: Path, fingerprint: str) -> None:
        """Use ``file`` for the training that ``fingerprint`` names."""
        self.file, self.fingerprint = file, fingerprint

    def save(self, state: TrainingState, weights: dict[str, Weights], optimiser: torch.optim.Optimizer) -> None:
        """Write the state; a kill while writing leaves the previous one.

        Args:
            state: how far training is.
            weights: sets of weights by the set's name.
            optimiser: its moments and learning rates are saved too.
        """
        values = optimiser.state_dict()
        tensors = {f"{kind}.{name}": tensor for kind, named in weights.items() for name, tensor in named.items()}
        for index, moments in values["state"].items():
            tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in moments.items()}
        numbers = {"fingerprint": self.fingerprint, "groups": values["param_groups"], "state": asdict(state)}
        partial = self.file.with_name(f"{self.file.name}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(tensors, partial, metadata={"numbers": json.dumps(numbers)})
        os.replace(partial, self.file)

    def load(self, optimiser: torch.optim.Optimizer) -> tuple[TrainingState, dict[str, Weights]] | None:
        """Load the state; moments and learning rates are put into the optimiser.

        Returns:
            The state and the sets of weights; None without a state to resume.
        """
        if not self.file.exists():
            return None
        try:
            with safe_open(self.file, "pt") as content:
                numbers = json.loads(content.metadata()["numbers"])
                if numbers["fingerprint"] != self.fingerprint:
                    return None
                weights, moments = _divide({name: content.get_tensor(name) for name in content.keys()})  # noqa: SIM118
            optimiser.load_state_dict({"state": moments, "param_groups": numbers["groups"]})
            return TrainingState(**numbers["state"]), weights
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            logger.warning(f"checkpoint {str(self.file)!r} cannot be read; training restarts")
            return None


def _divide(tensors: Weights) -> tuple[dict[str, Weights], dict[int, Weights]]:
    """Return the sets of weights by name, and the optimiser's moments by parameter."""
    weights: dict[str, Weights] = {}
    moments: dict[int, Weights] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            index, moment = rest.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
        else:
            weights.setdefault(kind, {})[rest] = tensor
    return weights, moments
