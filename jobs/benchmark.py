"""Compare methods on one extract; needs no Spark.

python jobs/benchmark.py --config conf/benchmark.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import show_pairs, show_rows
from ptec_udf.config_file import load_config


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration, run what is missing; return the comparison."""
    from training.benchmark.config import BenchmarkConfig
    from training.benchmark.run import benchmark

    return benchmark(load_config(BenchmarkConfig, config_file, overrides))


def show(result: dict[str, Any]) -> None:
    """Print a line per method, and where the whole table is."""
    shown = ("macro_f1", "map", "micro_f1", "ece", "learning_seconds", "scoring_seconds")
    show_rows(
        [
            {"method": name, "seeds": len(figures["seeds"]), **{key: figures[key] for key in shown}}
            for name, figures in result["methods"].items()
        ]
    )
    differences = {
        f"{result['reference']} minus {name}": ", ".join(
            f"{figure} {one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
            for figure, one in of_method.items()
            if one["low"] is not None
        )
        for name, of_method in result["differences"].items()
    }
    show_pairs({**differences, "table": result["table"]})


if __name__ == "__main__":
    from jobs.cli import app

    app(["benchmark", *sys.argv[1:]])
