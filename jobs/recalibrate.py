"""Give a registered model other calibration or thresholds, from the logits that scores hold.

spark-submit --properties-file conf/spark-defaults.conf jobs/recalibrate.py --config conf/recalibrate.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptec_udf.config_file import load_config
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration, fit or set, register; return the new model and what was measured."""
    from training.calibrate.recalibration.config import RecalibrateConfig

    config = load_config(RecalibrateConfig, config_file, overrides)
    from training.calibrate.recalibration.recalibrate import (
        recalibrate,  # needs the extra 'train', after a look at the settings
    )

    warehouse = Warehouse(build_session(config.warehouse, "ptec recalibrate"), config.warehouse.database)
    warehouse.ensure()
    return recalibrate(warehouse, config)


if __name__ == "__main__":
    from jobs.cli import app

    app(["recalibrate", *sys.argv[1:]])
