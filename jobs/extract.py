"""Take a training extract from a warehouse table.

spark-submit --properties-file conf/spark-defaults.conf jobs/extract.py --config conf/extract.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptec_udf.config import load_config
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.source import pin
from training.extract import extract
from training.extract_config import ExtractConfig


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration, pin the table, write the extract; return what was written."""
    config = load_config(ExtractConfig, config_file, overrides)
    spark = build_session(config.warehouse, "ptec extract")
    record = extract(spark, config, pin(spark, config.source))
    return {
        "extract": config.out,
        "source": record["name"],
        "version": record["version"],
        "labels": len(record["labels"]),
        "dropped_labels": record["dropped_labels"],
        "counts": record["counts"],
        "corrections": record["corrections"],
        "fingerprint": record["fingerprint"],
    }


if __name__ == "__main__":
    from jobs.cli import app

    app(["extract", *sys.argv[1:]])
