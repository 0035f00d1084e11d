"""What the processes of ``test_together`` do; with settings, a training on two executor JVMs.

Prints the training's result as JSON: ``python -m tests.e2e.trainings_together SETTING...``. Imports little, since each
process imports it anew.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from ptec_udf.config import load_config
from ptec_udf.errors import ConfigError
from training.args import TrainConfig
from training.group import Group


def killed_after_an_epoch(config: TrainConfig, measured: Sequence[str], group: Group) -> dict[str, Any]:
    """Train until the first state was saved, by the first process, which is then killed."""
    from training.checkpoint import Checkpoint
    from training.train import _train

    save = Checkpoint.save

    def save_and_die(self: Checkpoint, *state: Any) -> None:
        save(self, *state)
        os.kill(os.getpid(), signal.SIGKILL)

    Checkpoint.save = save_and_die  # type: ignore[method-assign]
    return _train(config, measured, group)


def refused_by_the_second(config: TrainConfig, group: Group) -> dict[str, Any]:
    """Find what is missing on the second machine only."""
    return group.all_or_none(_refuse if group.rank == 1 else dict)


def broken_in_the_second(config: TrainConfig, group: Group) -> dict[str, Any]:
    """Fail in one process, for which the other waits."""
    if group.rank == 1:
        raise ValueError("A COMPANY'S TEXT".lower())
    return {"all": group.gathered(0)}


def main(settings: list[str]) -> None:
    """Train on a local cluster, in a session that is there, as on a site."""
    from pyspark.sql import SparkSession

    from training.train import train

    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master("local-cluster[2,1,1024]").config("spark.ui.enabled", False).getOrCreate()
    try:
        print(json.dumps(train(load_config(TrainConfig, None, settings))))  # noqa: T201
    finally:
        spark.stop()  # a local cluster that is left alone ends in noise


def _refuse() -> dict[str, Any]:
    raise ConfigError(["one fault", "and another"])


if __name__ == "__main__":
    main(sys.argv[1:])
