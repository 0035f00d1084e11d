"""Training that was interrupted goes on after its last whole epoch, and ends as if it had not been.

The state is two files without pickle: tensors in safetensors, numbers in JSON. No generator's state is
needed, since every epoch draws its order from the seed and its own number.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ptec_udf.log import logger
from training.folders import name_of_old, put_in_place

Weights = dict[str, torch.Tensor]

_TENSORS = "state.safetensors"
_NUMBERS = "state.json"


@dataclass
class Course:
    """How far training is.

    ``history`` has a record per epoch; ``best_epoch`` counts from 1, 0 means none yet. ``best_value`` is None
    before the first epoch, and where nothing is measured.
    """

    epoch: int = 0
    n_steps: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Checkpoint:
    """Saves and restores one training run; a run of another configuration or extract is not resumed."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Use ``folder`` for the run that ``fingerprint`` names."""
        self.folder, self.fingerprint = folder, fingerprint

    def save(self, course: Course, weights: dict[str, Weights], optimiser: torch.optim.Optimizer) -> None:
        """Write the whole state; a kill while writing leaves the previous state in place.

        Args:
            course: how far training is.
            weights: sets of weights by the set's name.
            optimiser: its moments and rates are kept too.
        """
        state = optimiser.state_dict()
        tensors = {f"{kind}.{name}": value for kind, values in weights.items() for name, value in values.items()}
        for at, moments in state["state"].items():
            tensors |= {f"optimiser.{at}.{name}": value for name, value in moments.items()}
        numbers = {"fingerprint": self.fingerprint, "groups": state["param_groups"], "course": asdict(course)}
        partial = self.folder.with_name(self.folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial / _TENSORS)
        (partial / _NUMBERS).write_text(json.dumps(numbers), encoding="utf-8")
        put_in_place(partial, self.folder)

    def restore(self, optimiser: torch.optim.Optimizer) -> tuple[Course, dict[str, Weights]] | None:
        """Load the state; moments and rates go into the optimiser.

        Returns:
            The course and the sets of weights; None where there is nothing to resume.
        """
        try:
            numbers = json.loads((self._place() / _NUMBERS).read_text(encoding="utf-8"))
            if numbers["fingerprint"] != self.fingerprint:
                return None
            weights, moments = _parted(load_file(self._place() / _TENSORS))
            course = Course(**numbers["course"])
            optimiser.load_state_dict({"state": moments, "param_groups": numbers["groups"]})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            logger.info(f"the state in {str(self._place())!r} cannot be read: this training starts anew")
            return None
        return course, weights

    def _place(self) -> Path:
        """The newest whole state: a kill between two renames leaves it under the old name."""
        return self.folder if self.folder.exists() else name_of_old(self.folder)


def _parted(tensors: Weights) -> tuple[dict[str, Weights], dict[int, Weights]]:
    """Part what ``save`` put together: sets of weights by name, and the optimiser's moments by parameter."""
    weights: dict[str, Weights] = {}
    moments: dict[int, Weights] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            at, moment = rest.split(".")
            moments.setdefault(int(at), {})[moment] = value
        else:
            weights.setdefault(kind, {})[rest] = value
    return weights, moments
