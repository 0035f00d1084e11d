"""Search settings of a training on validation; needs no Spark.

python jobs/search.py --config conf/search.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptec_udf.config_file import load_config


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration, run the trials that are missing; return the best settings."""
    from training.search.config import SearchConfig

    config = load_config(SearchConfig, config_file, overrides)
    from training.search.run import search  # torch loads after the configuration was found good

    return search(config)


if __name__ == "__main__":
    from jobs.cli import app

    app(["search", *sys.argv[1:]])
