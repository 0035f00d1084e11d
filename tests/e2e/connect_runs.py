"""Three runs and a query on any session; prints their results as JSON.

``python -m tests.e2e.connect_runs FOLDER [ADDRESS]``: on an embedded warehouse in FOLDER, or a Spark Connect server.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ptec_udf import PtecModel
from ptec_udf.config import EngineConfig, WarehouseConfig
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.sql_function import register_ptec_score
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.support import Site, changed_companies, companies
from tests.tiny import LABELS

TEXT = "solar parks for farms"


def main(folder: Path, address: str | None) -> dict[str, Any]:
    """Score two versions and a text, and return results and tables."""
    where = {"folder": None, "remote": address, "artifacts": str(folder / "artifacts")}
    embedded = {"folder": str(folder / "warehouse"), "spark": {"spark.sql.shuffle.partitions": 2}}
    spark = build_session(WarehouseConfig(**(where if address else embedded)), "connect test")
    warehouse = Warehouse(spark)
    warehouse.ensure()
    site = Site(warehouse, folder / "models", ["drift.measure=true"])
    site.write(companies())
    site.champion()
    runs = [site.run(), site.run()]
    site.write(changed_companies())
    runs.append(site.run())
    register_ptec_score(spark, warehouse.database, engine=EngineConfig(dtype="float32"))
    answer = spark.sql(f"SELECT ptec_score('{TEXT}') AS answer").collect()[0]["answer"]
    of_model = PtecModel.load(registry.find(warehouse, alias="champion")["location"]).udf(spark, dtype="float32")
    answers = spark.createDataFrame([(TEXT,)], "text string").select(of_model("text").alias("answer")).collect()
    assert answers[0]["answer"] == answer
    scores = {key: [row["status"], row["labels"], row["logits"]] for key, row in site.scores().items()}
    found = {
        "kind": type(spark).__module__,
        "runs": [{name: run[name] for name in ("outcome", "counts", "skipped", "reused")} for run in runs],
        "scores": scores,
        "changes": len(site.rows("score_changes")),
        "drift": len(site.rows("drift")),
        "left": len(site.rows("score_staging")),
        "screen": spark.sql(f"SELECT * FROM {warehouse.name('screen')}('{LABELS[0]}', 0)").count(),
        "answer": answer,
    }
    spark.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)))  # noqa: T201
