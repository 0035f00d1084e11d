"""The nightly job: score what is new or changed in a source table.

spark-submit --properties-file conf/spark-defaults.conf jobs/score.py --config conf/score.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.notice import noticed
from ptec_udf.config import ScoreConfig
from ptec_udf.config_file import load_config
from ptec_udf.nightly.run import score
from ptec_udf.warehouse.session import build_session


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration, open the session, score; return the run's row, and say how it ended."""
    config = load_config(ScoreConfig, config_file, overrides)
    with noticed(config, "ptec score") as result:
        result |= score(build_session(config.warehouse, "ptec score"), config)
    return result


if __name__ == "__main__":
    from jobs.cli import app

    app(["score", *sys.argv[1:]])
