"""Rows per second of a scoring pass: this project's, and two usual ways to run PEFT's own model on Spark.

Run it so::

    python -m benchmarks.peers ARTIFACT texts.parquet --column text --out docs/benchmarks/peers

The others are ``predict_batch_udf`` of Spark and ``spark_udf`` of MLflow, both float32, with 32 rows a batch as they
come. MLflow is left out where it is not installed (extra ``benchmarks``). All score the same rows in one Spark session,
in turn, each after a first pass over a few rows that loads its model. Models have mean pooling, and a prompt or LoRA.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from benchmarks.common import (
    ColumnOption,
    MasterOption,
    OutOption,
    RepeatsOption,
    RowsOption,
    TextsArgument,
    in_turn,
    read_texts,
    run,
    table,
)
from benchmarks.machine import write_results
from benchmarks.peft_scorer import BATCH_ROWS, make_predict_fn
from ptec_udf.config import EngineConfig, WarehouseConfig
from ptec_udf.engine.udf import scoring_udf
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse.session import build_session

BATCH_UDF = "predict_batch_udf"
MLFLOW = "mlflow spark_udf"

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with mean pooling.")],
    texts: TextsArgument,
    column: ColumnOption = "text",
    rows: RowsOption = 2000,
    repeats: RepeatsOption = 2,
    dtypes: Annotated[
        list[str] | None, typer.Option("--dtype", help="Arithmetics of ptec; the others compute in float32.")
    ] = None,
    master: MasterOption = "local[2,4]",
    out: OutOption = Path("docs/benchmarks/peers"),
) -> None:
    """Let all score the same rows, and compare rates and scores."""
    chosen = read_texts(texts, column, rows)
    with tempfile.TemporaryDirectory() as folder:
        spark = build_session(WarehouseConfig(folder=f"{folder}/warehouse", master=master))
        slots = spark.sparkContext.defaultParallelism
        frame = spark.createDataFrame(pd.DataFrame({"row": range(len(chosen)), "text": chosen}))
        frame = frame.repartition(slots, "row").cache()
        frame.count()
        # Begun at once in as many tasks as there are slots, so that each worker loads each model.
        first = spark.range(0, 8 * slots, 1, slots).select(
            F.col("id").alias("row"), F.lit("A first text").alias("text")
        )
        ways = _ways(spark, artifact, dtypes or ["bfloat16", "float32"], Path(folder))
        for logits in ways.values():
            _scored(first, logits)
        found, seconds = in_turn(
            {name: partial(_scored, frame, logits) for name, logits in ways.items()}, len(chosen), repeats
        )
        spark.stop()
    compared = {name: _compared(seconds, found, name) for name in ways}
    about = {"master": master, "artifact": load_artifact(artifact).model_id}
    write_results(out, {**about, "ways": compared}, _table(compared))


def _ways(spark: SparkSession, artifact: Path, dtypes: Sequence[str], place: Path) -> dict[str, Column]:
    """Name the ways, each with its column of logits; what is written goes to ``place``."""
    ways: dict[str, Column] = {
        f"ptec in {dtype}": scoring_udf(spark, load_artifact(artifact), EngineConfig.model_validate({"dtype": dtype}))(
            "text"
        )["logits"]
        for dtype in dtypes
    }
    ways[BATCH_UDF] = predict_batch_udf(
        make_predict_fn(str(artifact)), return_type=T.ArrayType(T.FloatType()), batch_size=BATCH_ROWS
    )("text")
    if importlib.util.find_spec("mlflow"):
        ways[MLFLOW] = _mlflow_udf(spark, artifact, place)("text")
    else:
        logger.info(f"{MLFLOW} is left out: MLflow is not installed, see the extra 'benchmarks' in setup.py")
    return ways


def _mlflow_udf(spark: SparkSession, artifact: Path, place: Path) -> Any:
    """Save PEFT's model as MLflow does, and make MLflow's function of it."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")  # nothing is tracked, but a place is looked for
    saved, code = str(place / "mlflow"), str(Path(__file__).with_name("mlflow_model.py"))
    mlflow.pyfunc.save_model(saved, python_model=code, artifacts={"model": str(artifact)}, pip_requirements=[])
    return mlflow.pyfunc.spark_udf(spark, saved, result_type=T.ArrayType(T.FloatType()), env_manager="local")


def _scored(frame: DataFrame, logits: Column) -> np.ndarray:
    """Score a frame and return its logits in the order of rows, *Shape:* ``(n_rows, n_labels)``."""
    found = frame.select("row", logits.alias("logits")).toPandas().sort_values("row")
    return np.stack(found["logits"].tolist())


def _compared(seconds: dict[str, list[float]], logits: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Rate of a way's fastest pass, and how far its scores lie from those of PEFT's model."""
    ours, theirs = (1 / (1 + np.exp(-logits[way])) for way in (name, BATCH_UDF))
    apart = np.abs(ours - theirs)
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
    head = ["way", "rows/s", f"times `{BATCH_UDF}`", "sigmoids of logits apart from its, at most", "99.9 % of them"]
    rows = [
        [name, f"{of['rows_per_second']:.1f}", f"{of['times_as_fast']:.1f}", f"{of['worst']:.2g}", f"{of['p99.9']:.2g}"]
        for name, of in found.items()
    ]
    return table(head, rows)


if __name__ == "__main__":
    run(app)
