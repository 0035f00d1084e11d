"""Short trainings on fictional companies: what the tests of training share besides the fixtures."""

from __future__ import annotations

from typing import Any

import pytest

from ptec_training.fit.state import Checkpoint
from ptec_udf.model.artifact import ADAPTER, HEAD, Artifact

QUICK = (
    "max_tokens=32",
    "prompt.n_tokens=4",
    "dtype=float32",
    "optimiser.head_lr=.03",
    "stopping.patience=9",
    "stopping.refit=false",
)

CHANCE = 0.25  # a label is true of a quarter of the companies, which is the mean average precision of guessing


def weights_of(made: Artifact) -> dict[str, bytes]:
    """Return what was trained, as bytes of the artifact."""
    return {name: made.files[name] for name in (ADAPTER, HEAD)}


def stop_after(monkeypatch: pytest.MonkeyPatch, epoch: int, stage: str = "first") -> None:
    """Kill one of the trainings right after the state of an epoch was saved."""
    save = Checkpoint.save

    def save_then_stop(self: Checkpoint, state: Any, *rest: Any) -> None:
        save(self, state, *rest)
        if state.epoch == epoch and self.file.name.startswith(stage):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_then_stop)
