"""Remove what is too old, join small files, and remove files that nothing needs.

spark-submit --properties-file conf/spark-defaults.conf jobs/housekeeping.py --config conf/housekeeping.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import show_rows
from ptec_udf.config_file import load_config
from ptec_udf.monitor.housekeeping import HousekeepingConfig, housekeep
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration, open the session, keep house."""
    config = load_config(HousekeepingConfig, config_file, overrides)
    warehouse = Warehouse(build_session(config.warehouse, "ptec housekeeping"), config.warehouse.database)
    warehouse.ensure()
    return {"dry_run": config.dry_run, "tables": housekeep(warehouse, config)}


def show(result: dict[str, Any]) -> None:
    """Print a line for each table."""
    show_rows(result["tables"])


if __name__ == "__main__":
    from jobs.cli import app

    app(["housekeeping", *sys.argv[1:]])
