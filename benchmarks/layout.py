"""Megabytes that the two main queries read from ``scores``, by how a model's partition is laid out.

Run it so::

    python -m benchmarks.layout --rows 100000 --out docs/benchmarks/layout

Scores are made up: 57 labels, keys in any order, a first night and some in which one company in 100 changes and
one in 500 is new. Bytes are those that Hadoop counts, with Parquet's parallel reading off, which it does not count.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.common import MasterOption, OutOption, run, table
from benchmarks.machine import write_results
from ptec_udf.config import WarehouseConfig
from ptec_udf.log import logger
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse

N_LABELS = 57
MODEL = "m"
PAGE_ROWS = "spark.hadoop.parquet.page.row.count.limit"

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    rows: Annotated[int, typer.Option(help="Companies.")] = 100_000,
    nights: Annotated[int, typer.Option(help="Nights after the first one.")] = 3,
    page_rows: Annotated[int, typer.Option(help="Most rows of a page of Parquet.")] = 1_000,
    master: MasterOption = "local[*,4]",
    out: OutOption = Path("docs/benchmarks/layout"),
) -> None:
    """Write nights with pages of one size, join files, order them by key; measure both queries each time."""
    with tempfile.TemporaryDirectory() as folder:
        spark = build_session(
            WarehouseConfig(
                folder=folder,
                master=master,
                spark={"spark.hadoop.parquet.hadoop.vectored.io.enabled": False, PAGE_ROWS: page_rows},
            )
        )
        found = _layouts(Warehouse(spark), rows, nights)
        spark.stop()
    lines = table(
        ["layout", "files", "MB", "one company: MB read", "companies of a label: MB read"],
        [[name, *(f"{value:.4g}" for value in figures.values())] for name, figures in found.items()],
    )
    write_results(out, {"rows": rows, "nights": nights, "page_rows": page_rows, "layouts": found}, lines)


def _layouts(warehouse: Warehouse, rows: int, nights: int) -> dict[str, dict[str, float]]:
    """Return what is measured of each layout."""
    warehouse.ensure()
    spark = warehouse.spark
    warehouse.merge_scores(_scores(spark, 0, rows, 0), model_id=MODEL, run_id="0")
    for night in range(1, nights + 1):
        changed = _scores(spark, 0, rows, night).where(F.pmod(F.hash("key", F.lit(night)), F.lit(100)) == 0)
        fresh = _scores(spark, rows + (night - 1) * rows // 500, rows + night * rows // 500, night)
        warehouse.merge_scores(changed.unionByName(fresh), model_id=MODEL, run_id=str(night))
    delta = DeltaTable.forName(spark, warehouse.name("scores"))
    found = {"as nights leave it": _measured(warehouse)}
    delta.optimize().executeCompaction()
    found["files joined"] = _measured(warehouse)
    delta.optimize().executeZOrderBy("key")
    found["Z-order by key"] = _measured(warehouse)
    return found


def _scores(spark: SparkSession, first: int, end: int, seed: int) -> DataFrame:
    """Make up scores of companies ``first`` to ``end``."""
    key = F.substring(F.sha2(F.col("id").cast("string"), 256), 1, 16)
    probabilities = F.array(*[F.pow(F.rand(seed * N_LABELS + at), F.lit(6)).cast("float") for at in range(N_LABELS)])
    labels = F.array(*[F.concat(F.lit("label "), F.pmod(F.hash("id", F.lit(at)), F.lit(N_LABELS))) for at in (0, 1)])
    return spark.range(first, end).select(
        key.alias("key"),
        F.sha2(key, 256).alias("text_hash"),
        F.lit("ok").alias("status"),
        F.lit(100).alias("n_tokens"),
        F.array(*[F.randn(seed * N_LABELS + at).cast("float") for at in range(N_LABELS)]).alias("logits"),
        probabilities.alias("probabilities"),
        labels.alias("labels"),
        F.lit("crm").alias("source_id"),
        F.lit(seed).cast("long").alias("source_version"),
        F.lit(f"run-{seed}").alias("run_id"),
        F.current_timestamp().alias("scored_at"),
    )


def _measured(warehouse: Warehouse) -> dict[str, float]:
    """Measure the files, and what both queries read."""
    spark, scores = warehouse.spark, warehouse.spark.table(warehouse.name("scores"))
    standing = scores.where((F.col("model_id") == MODEL) & F.col("removed_in").isNull())
    key = str(standing.agg(F.max("key")).first()[0])  # type: ignore[index]
    detail: Any = spark.sql(f"DESCRIBE DETAIL {warehouse.name('scores')}").first()
    found = {
        "files": float(detail["numFiles"]),
        "mb": detail["sizeInBytes"] / 1e6,
        "company_mb": _read(spark, standing.where(F.col("key") == key).select("labels", "probabilities")),
        "label_mb": _read(spark, standing.where(F.array_contains("labels", "label 7")).select("key", "probabilities")),
    }
    logger.info(f"{found}")
    return found


def _read(spark: SparkSession, query: DataFrame) -> float:
    """Run a query and return the megabytes that it read; once before, since the first reads the table's log too."""
    query.collect()
    before = _bytes_read(spark)
    query.collect()
    return (_bytes_read(spark) - before) / 1e6


def _bytes_read(spark: SparkSession) -> int:
    assert spark._jvm is not None
    return sum(one.getBytesRead() for one in spark._jvm.org.apache.hadoop.fs.FileSystem.getAllStatistics())


if __name__ == "__main__":
    run(app)
