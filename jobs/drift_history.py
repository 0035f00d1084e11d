"""``ptec drift``: drift of the last runs, and whether it is time to retrain."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from pyspark.sql import functions as F

from ptec_udf.monitor.judge import RUNS, TRAINING
from ptec_udf.nightly.runs import DONE
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse


def read_drift(warehouse: Warehouse, alias: str, n_runs: int) -> dict[str, Any]:
    """Read the last measured runs of the model of an alias; the newest one decides ``retrain``.

    Raise RegistryError when there is no such alias.
    """
    model_id = registry.find(warehouse, alias)["model_id"]
    of_model = (F.col("model_id") == F.lit(model_id)) & F.col("alias").eqNullSafe(F.lit(alias))
    measured = warehouse.read("runs").where(of_model & (F.col("outcome") == DONE) & F.col("drifted").isNotNull())
    rows = measured.orderBy(F.desc("ended")).limit(n_runs).collect()
    compared = _compared(warehouse, [row["run_id"] for row in rows])
    runs = [
        {
            "started": row["started"].astimezone(UTC).isoformat(timespec="seconds"),
            "run_id": row["run_id"],
            "compared": compared.get(row["run_id"]),
            "drifted": row["drifted"],
            "retrain": row["retrain"],
        }
        for row in rows
    ]
    return {"alias": alias, "model_id": model_id, "retrain": bool(runs and runs[0]["retrain"]), "runs": runs}


def _compared(warehouse: Warehouse, run_ids: list[str]) -> dict[str, list[str]]:
    """Return what each run was compared with: nothing, where companies are too few."""
    of_runs = warehouse.read("drift").where(F.col("run_id").isin(run_ids)).groupBy("run_id")
    rows = of_runs.agg(*(F.count(f"psi_{name}").alias(name) for name in (TRAINING, RUNS))).collect()
    return {row["run_id"]: [name for name in (TRAINING, RUNS) if row[name]] for row in rows}
