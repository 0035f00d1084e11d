"""List companies whose score failed, by their error; no text is shown.

spark-submit --properties-file conf/spark-defaults.conf jobs/errors.py --config conf/score.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import show_rows
from ptec_udf.config import ScoreConfig
from ptec_udf.config_file import load_config
from ptec_udf.monitor.failures import list_errors
from ptec_udf.warehouse.session import build_session


def run(config_file: Path | None, overrides: Sequence[str], n_keys: int) -> dict[str, Any]:
    """Read the configuration, open the session, list errors."""
    config = load_config(ScoreConfig, config_file, overrides)
    return list_errors(build_session(config.warehouse, "ptec errors"), config, n_keys)


def show(result: dict[str, Any]) -> None:
    """Print a line for each error."""
    rows = [row | {"keys": ", ".join(map(repr, row["keys"]))} for row in result["errors"]]  # a key may hold anything
    show_rows(rows, "no company has an error")


if __name__ == "__main__":
    from jobs.cli import app

    app(["errors", *sys.argv[1:]])
