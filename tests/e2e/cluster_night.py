"""A night on two executor JVMs; prints what happened as JSON: ``python -m tests.e2e.cluster_night FOLDER``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pyspark.sql import functions as F

from ptec_udf.config import EngineConfig, WarehouseConfig
from ptec_udf.engine.udf import engine_settings, windows
from ptec_udf.engine.worker import scorer_for
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site, companies
from tests.tiny import tiny_artifact


def main(folder: Path) -> None:
    """Score a night on a local cluster, then ask which executors score."""
    config = WarehouseConfig(folder=str(folder / "warehouse"), master="local-cluster[2,1,1024]")
    spark = build_session(config, "cluster")
    try:
        warehouse = Warehouse(spark)
        warehouse.ensure()
        site = Site(warehouse, folder / "models")
        site.write(companies(120))
        site.champion()
        print(json.dumps({"night": site.night(), "executors": executors(site)}))  # noqa: T201
    finally:
        spark.stop()  # a local cluster that is left alone ends in noise


def executors(site: Site) -> list[str]:
    """Work folders of the executors whose workers scored."""
    artifact = load_artifact(tiny_artifact(site.folder, "bert", "deep"))
    files, model_id = site.spark.sparkContext.broadcast(artifact.scoring_files), artifact.model_id
    settings = engine_settings(site.spark, EngineConfig())

    @F.pandas_udf("where string, n_logits int")  # type: ignore[call-overload]
    def probe(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for window in windows(batches, 100, 100_000):
            scored = scorer_for(model_id, files.value, settings).score(window)
            yield pd.DataFrame({"where": os.getcwd(), "n_logits": [len(one.logits) for one in scored]})

    texts = site.spark.createDataFrame([(f"company {at}",) for at in range(400)], "text string").repartition(8)
    rows = texts.select(probe("text").alias("p")).select("p.*").distinct().collect()
    return sorted({row["where"] for row in rows if row["n_logits"]})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
