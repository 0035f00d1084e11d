"""Take a training extract from a warehouse table.

spark-submit --properties-file conf/spark-defaults.conf jobs/extract.py --config conf/extract.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import show_pairs, show_rows
from ptec_udf.config_file import load_config
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.source import pin
from training.data.config import ExtractConfig
from training.data.extract import extract
from training.data.folder import check_out


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration, pin the table, write the extract; return what was written."""
    config = load_config(ExtractConfig, config_file, overrides)
    check_out(config.out, config.overwrite)  # before Spark starts
    spark = build_session(config.warehouse, "ptec extract")
    record = extract(spark, config, pin(spark, config.source))
    return {
        "extract": config.out,
        "source": record["name"],
        "version": record["version"],
        "labels": len(record["labels"]),
        "kept_labels": record["labels"],
        "dropped_labels": record["dropped_labels"],
        "counts": record["counts"],
        "corrections": record["corrections"],
        "fingerprint": record["fingerprint"],
    }


def show(result: dict[str, Any]) -> None:
    """Print where the extract is, what was counted, and each label with its companies."""
    labels = [{**label, "is": "kept"} for label in result["kept_labels"]]
    labels += [{**label, "is": f"dropped: {label['reason']}"} for label in result["dropped_labels"]]
    show_rows([{name: label.get(name, 0) for name in ("name", "train", "dev", "test", "is")} for label in labels])
    counts = dict(result["counts"])
    written = counts.pop("written")
    told = {name: value for name, value in result.items() if name not in ("kept_labels", "dropped_labels", "counts")}
    corrections = told.pop("corrections") or {}
    show_pairs({**told, "written": written, "of rows": counts, "corrections": corrections.get("counts")})


if __name__ == "__main__":
    from jobs.cli import app

    app(["extract", *sys.argv[1:]])
