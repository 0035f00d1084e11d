"""Training that was interrupted goes on after its last whole epoch, and ends as if it had not been.

The state is two files without pickle: tensors in safetensors, numbers in JSON. No generator's state is
needed, since every epoch draws its order from the seed and its own number.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_TENSORS = "state.safetensors"
_NUMBERS = "state.json"


@dataclass
class Course:
    """How far training is.

    ``history`` has a record per epoch; ``best_epoch`` counts from 1, 0 means none yet.
    """

    epoch: int = 0
    n_steps: int = 0
    best_epoch: int = 0
    best_value: float = float("-inf")
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Checkpoint:
    """Saves and restores one training run; a run of another configuration or extract is not resumed."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Use ``folder`` for the run that ``fingerprint`` names."""
        self.folder, self.fingerprint = folder, fingerprint

    def save(
        self,
        course: Course,
        parameters: dict[str, torch.Tensor],
        best: dict[str, torch.Tensor],
        optimiser: torch.optim.Optimizer,
    ) -> None:
        """Write the whole state; a kill while writing leaves the previous state in place."""
        state = optimiser.state_dict()
        tensors = {f"now.{name}": value for name, value in parameters.items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        for at, moments in state["state"].items():
            tensors |= {f"optimiser.{at}.{name}": value for name, value in moments.items()}
        numbers = {"fingerprint": self.fingerprint, "groups": state["param_groups"], "course": asdict(course)}
        partial = self.folder.with_name(self.folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial / _TENSORS)
        (partial / _NUMBERS).write_text(json.dumps(numbers), encoding="utf-8")
        old = self.folder.with_name(self.folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            os.rename(self.folder, old)
        os.rename(partial, self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def restore(
        self, parameters: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
    ) -> tuple[Course, dict[str, torch.Tensor]] | None:
        """Load the state into parameters and optimiser.

        Returns:
            The course and the best weights so far; None where there is nothing to resume.
        """
        numbers = self._numbers()
        if numbers is None or numbers["fingerprint"] != self.fingerprint:
            return None
        tensors = load_file(self._place() / _TENSORS)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"now.{name}"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, at, moment = name.split(".")
                moments.setdefault(int(at), {})[moment] = value
        optimiser.load_state_dict({"state": moments, "param_groups": numbers["groups"]})
        best = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
        return Course(**numbers["course"]), best

    def remove(self) -> None:
        """Forget the run."""
        for end in ("", ".old", ".partial"):
            shutil.rmtree(self.folder.with_name(self.folder.name + end), ignore_errors=True)

    def _place(self) -> Path:
        """The newest whole state: a kill between two renames leaves it under the old name."""
        old = self.folder.with_name(self.folder.name + ".old")
        return self.folder if self.folder.exists() else old

    def _numbers(self) -> dict[str, Any] | None:
        try:
            return json.loads((self._place() / _NUMBERS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
