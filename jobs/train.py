"""Train a model from an extract; needs no Spark, so plain ``python jobs/train.py`` does too.

python jobs/train.py --config conf/train.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import show_pairs, show_rows
from ptec_udf.config_file import load_config
from training.config import TrainConfig


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration and train; return model_id, artifact and metrics."""
    config = load_config(TrainConfig, config_file, overrides)
    from training.train import train  # torch loads after the configuration was found good

    return train(config)


def show(result: dict[str, Any]) -> None:
    """Print what was made, and the figures of each split side by side."""
    show_pairs({name: value for name, value in result.items() if name != "metrics"})
    splits = result["metrics"]
    figures = dict.fromkeys(name for split in splits.values() for name in split)
    show_rows([{"figure": name, **{split: splits[split].get(name, "") for split in splits}} for name in figures])


if __name__ == "__main__":
    from jobs.cli import app

    app(["train", *sys.argv[1:]])
