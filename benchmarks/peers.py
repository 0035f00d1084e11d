"""Rows per second of a scoring pass: this project's, and ``predict_batch_udf`` around PEFT's own model.

Run it so::

    python -m benchmarks.peers ARTIFACT texts.parquet --column text --out docs/benchmarks/peers

Both score the same rows in one Spark session, in turn, each after a first pass over a few rows that loads its model.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from benchmarks.machine import write_results
from benchmarks.peft_scorer import BATCH_ROWS, make_predict_fn
from ptec_udf.config import EngineConfig, WarehouseConfig
from ptec_udf.engine.udf import scoring_udf
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse.session import build_session

BATCH_UDF = "predict_batch_udf"

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with mean pooling.")],
    texts: Annotated[Path, typer.Argument(help="Parquet file or folder.")],
    column: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    rows: Annotated[int, typer.Option(help="So many rows are scored, the first ones.")] = 2000,
    repeats: Annotated[int, typer.Option(help="Passes of each.")] = 2,
    dtypes: Annotated[
        list[str] | None, typer.Option("--dtype", help="Arithmetics of ptec; the other computes in float32.")
    ] = None,
    master: Annotated[str, typer.Option(help="Spark master.")] = "local[2,4]",
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("docs/benchmarks/peers"),
) -> None:
    """Let both score the same rows, and compare rates and scores."""
    with tempfile.TemporaryDirectory() as folder:
        spark = build_session(WarehouseConfig(folder=folder, master=master))
        slots = spark.sparkContext.defaultParallelism
        frame = spark.read.parquet(str(texts)).where(F.length(F.trim(column)) > 0).limit(rows)
        frame = frame.select(F.monotonically_increasing_id().alias("row"), F.col(column).alias("text"))
        frame = frame.repartition(slots, "row").cache()
        ways: dict[str, Column] = {
            f"ptec in {dtype}": scoring_udf(spark, load_artifact(artifact), EngineConfig(dtype=dtype))("text")["logits"]
            for dtype in dtypes or ["bfloat16", "float32"]
        }
        ways[BATCH_UDF] = predict_batch_udf(
            make_predict_fn(str(artifact)), return_type=T.ArrayType(T.FloatType()), batch_size=BATCH_ROWS
        )("text")
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        logits: dict[str, np.ndarray] = {}
        # Begun at once in as many tasks as there are slots, so that each worker loads each model.
        first = spark.range(0, 8 * slots, 1, slots).select(
            F.col("id").alias("row"), F.lit("A first text").alias("text")
        )
        for logit_column in ways.values():
            _scored(first, logit_column)
        for _ in range(repeats):
            for name, logit_column in ways.items():
                started = time.monotonic()
                logits[name] = _scored(frame, logit_column)
                seconds[name].append(time.monotonic() - started)
                typer.echo(f"{name}: {len(logits[name]) / seconds[name][-1]:.1f} rows/s", err=True)
        spark.stop()
    found = {name: _compared(seconds, logits, name) for name in ways}
    write_results(out, {"master": master, "artifact": load_artifact(artifact).model_id, "ways": found}, _table(found))


def _scored(frame: DataFrame, logits: Column) -> np.ndarray:
    """Score a frame and return its logits in the order of rows, *Shape:* ``(n_rows, n_labels)``."""
    found = frame.select("row", logits.alias("logits")).toPandas().sort_values("row")
    return np.stack(found["logits"].tolist())


def _compared(seconds: dict[str, list[float]], logits: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Rate of a way's fastest pass, and how far its scores lie from those of PEFT's model."""
    probabilities, theirs = (1 / (1 + np.exp(-logits[way])) for way in (name, BATCH_UDF))
    apart = np.abs(probabilities - theirs)
    return {
        "rows": len(apart),
        "seconds": seconds[name],
        "rows_per_second": len(apart) / min(seconds[name]),
        "times_as_fast": min(seconds[BATCH_UDF]) / min(seconds[name]),
        "worst": float(apart.max()),
        "p99.9": float(np.quantile(apart, 0.999)),
    }


def _table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Lay the figures out as Markdown."""
    lines = [
        f"| way | rows/s | times `{BATCH_UDF}` | sigmoids of logits apart from its, at most | 99.9 % of them |",
        "|---|---|---|---|---|",
    ]
    for name, of in found.items():
        rates = f"| {name} | {of['rows_per_second']:.1f} | {of['times_as_fast']:.1f} |"
        lines.append(f"{rates} {of['worst']:.2g} | {of['p99.9']:.2g} |")
    return lines


if __name__ == "__main__":
    app()
