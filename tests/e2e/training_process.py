"""What the processes of ``test_training_processes`` do; imports little, since each of them imports it anew."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from ptec_udf.errors import ConfigError
from training.config import TrainConfig
from training.processes.group import Group


def killed_after_an_epoch(config: TrainConfig, measured: Sequence[str], shared: None, group: Group) -> dict[str, Any]:
    """Train until the first state was saved, by the first process, which is then killed."""
    from training.fit.checkpoint import Checkpoint
    from training.train import _train

    save = Checkpoint.save

    def save_and_die(self: Checkpoint, *state: Any) -> None:
        save(self, *state)
        os.kill(os.getpid(), signal.SIGKILL)

    Checkpoint.save = save_and_die  # type: ignore[method-assign]
    return _train(config, measured, shared, group)


def refused_by_the_second(config: TrainConfig, group: Group) -> dict[str, Any]:
    """Find what is missing on the second machine only."""
    return group.all_or_none(_refuse if group.rank == 1 else dict)


def broken_in_the_second(config: TrainConfig, group: Group) -> dict[str, Any]:
    """Fail in one process, for which the other waits."""
    if group.rank == 1:
        raise ValueError("A COMPANY'S TEXT".lower())
    return {"all": group.gathered(0)}


def _refuse() -> dict[str, Any]:
    raise ConfigError(["one fault", "and another"])
