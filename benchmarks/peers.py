"""Rows per second of a scoring pass: this project's, and the usual ways to run PEFT's own model on Spark.

Run it so::

    python -m benchmarks.peers ARTIFACT texts.parquet --column text --out docs/benchmarks/peers

The others are ``predict_batch_udf`` of Spark and ``spark_udf`` of MLflow, both float32, with 32 rows a batch in the
order of the rows; and a tuned baseline, ``predict_batch_udf`` on rows sorted by length, in bfloat16 where the CPU has
it in hardware (elsewhere float32 is faster). MLflow is left out where it is not installed (extra ``benchmarks``). All
score the same rows in one Spark session, in turn, each after a first pass over a few rows that loads its model. Models
have mean pooling, and a prompt or LoRA.
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
    differences,
    in_turn,
    rates,
    read_texts,
    run,
    show_rates,
    table,
)
from benchmarks.machine import write_results
from benchmarks.peft_scorer import BATCH_ROWS, make_predict_fn
from ptec_udf.config import EngineConfig, WarehouseConfig
from ptec_udf.engine.device import has_bfloat16
from ptec_udf.engine.udf import scoring_udf
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse.session import build_session

FASTEST_DTYPE = "bfloat16" if has_bfloat16("cpu") else "float32"
BATCH_UDF, TUNED_UDF = "predict_batch_udf", f"predict_batch_udf, sorted, {FASTEST_DTYPE}"
MLFLOW = "mlflow spark_udf"

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with mean pooling.")],
    texts: TextsArgument,
    column: ColumnOption = "text",
    rows: RowsOption = 2000,
    repeats: RepeatsOption = 2,
    dtypes: Annotated[list[str] | None, typer.Option("--dtype", help="dtypes of ptec.")] = None,
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
        ordered = frame.sortWithinPartitions(F.length("text")).cache()
        ordered.count()
        # As many tasks as slots, so that each worker loads each model.
        first = spark.range(0, 8 * slots, 1, slots).select(
            F.col("id").alias("row"), F.lit("A first text").alias("text")
        )
        columns = _columns(spark, artifact, dtypes or list(dict.fromkeys([FASTEST_DTYPE, "float32"])), Path(folder))
        for logits in columns.values():
            _score(first, logits)
        variants = {
            name: partial(_score, ordered if name == TUNED_UDF else frame, logits) for name, logits in columns.items()
        }
        logits_of, seconds = in_turn(variants, len(chosen), repeats)
        spark.stop()
    found = {
        name: {
            "rows": len(chosen),
            "rows_per_second": rates(len(chosen), seconds[name]),
            "times": {base: min(seconds[base]) / min(seconds[name]) for base in (BATCH_UDF, TUNED_UDF)},
            "sigmoids_apart": differences(logits_of[name], logits_of[BATCH_UDF]),
        }
        for name in columns
    }
    write_results(out, {"master": master, "artifact": load_artifact(artifact).model_id, "peers": found}, _table(found))


def _columns(spark: SparkSession, artifact: Path, dtypes: Sequence[str], folder: Path) -> dict[str, Column]:
    """Return each variant's column of logits; MLflow writes to ``folder``."""
    columns: dict[str, Column] = {
        f"ptec, {dtype}": scoring_udf(spark, load_artifact(artifact), EngineConfig.model_validate({"dtype": dtype}))(
            "text"
        )["logits"]
        for dtype in dtypes
    }
    for name, dtype in ((BATCH_UDF, "float32"), (TUNED_UDF, FASTEST_DTYPE)):
        predict = make_predict_fn(str(artifact), dtype)
        columns[name] = predict_batch_udf(predict, return_type=T.ArrayType(T.FloatType()), batch_size=BATCH_ROWS)(
            "text"
        )
    if importlib.util.find_spec("mlflow"):
        columns[MLFLOW] = _mlflow_udf(spark, artifact, folder)("text")
    else:
        logger.info(f"{MLFLOW} is left out: MLflow is not installed, see the extra 'benchmarks' in setup.py")
    return columns


def _mlflow_udf(spark: SparkSession, artifact: Path, place: Path) -> Any:
    """Save PEFT's model as MLflow does, and make MLflow's function of it."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")  # nothing is tracked, but a place is looked for
    saved, code = str(place / "mlflow"), str(Path(__file__).with_name("mlflow_model.py"))
    mlflow.pyfunc.save_model(saved, python_model=code, artifacts={"model": str(artifact)}, pip_requirements=[])
    return mlflow.pyfunc.spark_udf(spark, saved, result_type=T.ArrayType(T.FloatType()), env_manager="local")


def _score(frame: DataFrame, logits: Column) -> np.ndarray:
    """Score a frame and return its logits in the order of rows, *Shape:* ``(n_rows, n_labels)``."""
    found = frame.select("row", logits.alias("logits")).toPandas().sort_values("row")
    return np.stack(found["logits"].tolist())


def _table(found: dict[str, dict[str, Any]]) -> list[str]:
    head = ["variant", "rows/s: median (min to max)", f"times `{BATCH_UDF}`", "times the tuned one"]
    rows = [
        [
            name,
            show_rates(of["rows_per_second"]),
            *(f"{of['times'][base]:.1f}" for base in (BATCH_UDF, TUNED_UDF)),
            f"{of['sigmoids_apart']['max']:.2g}",
            f"{of['sigmoids_apart']['p99.9']:.2g}",
        ]
        for name, of in found.items()
    ]
    return table([*head, f"sigmoids from those of `{BATCH_UDF}`, at most", "99.9 % of them"], rows)


if __name__ == "__main__":
    run(app)
