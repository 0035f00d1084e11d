"""Say what drifted in the last nights, and whether it is time to train again.

spark-submit --properties-file conf/spark-defaults.conf jobs/drift.py --config conf/score.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from jobs.command import show_rows
from jobs.site import open_warehouse
from ptec_udf.monitor.judge import NIGHTS, TRAINING
from ptec_udf.nightly.runs import DONE
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse


def run(alias: str, n_nights: int, config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the last measured nights of the model that an alias points to; the newest one decides ``retrain``.

    Raises:
        RegistryError: if there is no such alias.
    """
    warehouse, _ = open_warehouse(config_file, overrides, "ptec drift")
    model_id = registry.find(warehouse, alias)["model_id"]
    of_model = (F.col("model_id") == F.lit(model_id)) & F.col("alias").eqNullSafe(F.lit(alias))
    measured = warehouse.read("runs").where(of_model & (F.col("outcome") == DONE) & F.col("drifted").isNotNull())
    rows = measured.orderBy(F.desc("ended")).limit(n_nights).collect()
    compared = _compared(warehouse, [row["run_id"] for row in rows])
    nights = [
        {
            "night": row["started"].astimezone(UTC).isoformat(timespec="seconds"),
            "run_id": row["run_id"],
            "compared": compared.get(row["run_id"]),
            "drifted": row["drifted"],
            "retrain": row["retrain"],
        }
        for row in rows
    ]
    return {"alias": alias, "model_id": model_id, "retrain": bool(nights and nights[0]["retrain"]), "nights": nights}


def _compared(warehouse: Warehouse, run_ids: list[str]) -> dict[str, list[str]]:
    """Say what each run was held against: nothing, where companies are too few."""
    of_runs = warehouse.read("drift").where(F.col("run_id").isin(run_ids)).groupBy("run_id")
    rows = of_runs.agg(*(F.count(f"psi_{name}").alias(name) for name in (TRAINING, NIGHTS))).collect()
    return {row["run_id"]: [name for name in (TRAINING, NIGHTS) if row[name]] for row in rows}


def _told(compared: list[str] | None) -> str:
    if compared is None:
        return "not kept"
    return " and ".join(compared) or "nothing: too few companies"


def fault_of(result: dict[str, Any]) -> str | None:
    """Say that it is time to train again, for the exit code."""
    return "drift says that it is time to train again, see docs/retraining.md" if result["retrain"] else None


def show(result: dict[str, Any]) -> None:
    """Print a line for each night, and all that drifted in the last one."""
    rows = [
        {
            "night": night["night"],
            "compared with": _told(night["compared"]),
            "over its limit": len(night["drifted"]),
            "the farthest": "; ".join(night["drifted"][:3]),
            "retrain": "yes" if night["retrain"] else "no",
        }
        for night in result["nights"]
    ]
    show_rows(rows, f"no night of {result['alias']} ({result['model_id'][:12]}) was measured yet")
    for night in result["nights"][:1]:
        if night["drifted"]:
            show_rows([{"over its limit in the last night": what} for what in night["drifted"]])


if __name__ == "__main__":
    from jobs.cli import app

    app(["drift", *sys.argv[1:]])
