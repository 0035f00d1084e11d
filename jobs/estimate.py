"""How long the next night will take, and what memory it needs; scores some texts and writes no scores.

spark-submit --properties-file conf/spark-defaults.conf jobs/estimate.py --config conf/score.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import show_pairs, show_rows
from ptec_udf.config import ScoreConfig
from ptec_udf.config_file import load_config
from ptec_udf.preflight.estimate import estimate
from ptec_udf.warehouse.session import build_session


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration, open the session, estimate."""
    config = load_config(ScoreConfig, config_file, overrides)
    return estimate(build_session(config.warehouse, "ptec estimate"), config)


def show(result: dict[str, Any]) -> None:
    """Print what is expected, and a line for each number of slots."""
    show_pairs({name: value for name, value in result.items() if name != "seconds_by_slots"})
    if by_slots := result.get("seconds_by_slots"):
        show_rows([{"slots": slots, "seconds": round(seconds)} for slots, seconds in by_slots.items()])


if __name__ == "__main__":
    from jobs.cli import app

    app(["estimate", *sys.argv[1:]])
