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

OURS, BATCH_UDF = "ptec", "predict_batch_udf"

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with mean pooling.")],
    texts: Annotated[Path, typer.Argument(help="Parquet file or folder.")],
    column: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    rows: Annotated[int, typer.Option(help="So many rows are scored, the first ones.")] = 2000,
    repeats: Annotated[int, typer.Option(help="Passes of each.")] = 2,
    dtype: Annotated[
        str, typer.Option(help="Arithmetic of ptec's backbone; the other computes in float32.")
    ] = "bfloat16",
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
            OURS: scoring_udf(spark, load_artifact(artifact), EngineConfig(dtype=dtype))("text")["logits"],
            BATCH_UDF: predict_batch_udf(
                make_predict_fn(str(artifact)), return_type=T.ArrayType(T.FloatType()), batch_size=BATCH_ROWS
            )("text"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        logits: dict[str, np.ndarray] = {}
        for logit_column in ways.values():
            _scored(frame.limit(2 * slots), logit_column)
        for _ in range(repeats):
            for name, logit_column in ways.items():
                started = time.monotonic()
                logits[name] = _scored(frame, logit_column)
                seconds[name].append(time.monotonic() - started)
                typer.echo(f"{name}: {len(logits[name]) / seconds[name][-1]:.1f} rows/s", err=True)
        spark.stop()
    found = _compared(seconds, logits) | {
        "dtype": dtype,
        "master": master,
        "artifact": load_artifact(artifact).model_id,
    }
    write_results(out, found, _table(found))


def _scored(frame: DataFrame, logits: Column) -> np.ndarray:
    """Score a frame and return its logits in the order of rows, *Shape:* ``(n_rows, n_labels)``."""
    found = frame.select("row", logits.alias("logits")).toPandas().sort_values("row")
    return np.stack(found["logits"].tolist())


def _compared(seconds: dict[str, list[float]], logits: dict[str, np.ndarray]) -> dict[str, Any]:
    """Rates of the fastest pass of each, and how far the scores lie apart."""
    n_rows = len(logits[OURS])
    probabilities = {name: 1 / (1 + np.exp(-values)) for name, values in logits.items()}
    apart = np.abs(probabilities[OURS] - probabilities[BATCH_UDF])
    return {
        "rows": n_rows,
        "seconds": seconds,
        "rows_per_second": {name: n_rows / min(taken) for name, taken in seconds.items()},
        "times_as_fast": min(seconds[BATCH_UDF]) / min(seconds[OURS]),
        "probability_apart": {"worst": float(apart.max()), "p99.9": float(np.quantile(apart, 0.999))},
    }


def _table(found: dict[str, Any]) -> list[str]:
    """Lay the figures out as Markdown."""
    lines = ["| way | rows/s |", "|---|---|"]
    lines += [f"| `{name}` | {rate:.1f} |" for name, rate in found["rows_per_second"].items()]
    apart = found["probability_apart"]
    return [
        *lines,
        "",
        f"{found['times_as_fast']:.1f} times as fast on {found['rows']} rows; sigmoids of logits differ by "
        f"{apart['worst']:.2g} at most, 99.9 % of them by {apart['p99.9']:.2g}.",
    ]


if __name__ == "__main__":
    app()
