"""Texts to logits inside Spark: an iterator pandas UDF around the scorer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ptec_udf.config import EngineConfig
from ptec_udf.engine.device import has_bfloat16
from ptec_udf.engine.worker import WorkerModel, score_batches
from ptec_udf.model.artifact import Artifact
from ptec_udf.model.calibration import probabilities
from ptec_udf.warehouse.remote import broadcast_or_inline, count_cores

SCORED = "status string, n_tokens int, n_truncated int, error string, logits array<float>, batch_positions int"
"""The UDF's result: the fields of ``ScoredText``."""


def scoring_udf(spark: SparkSession, artifact: Artifact, engine: EngineConfig) -> Any:
    """Make the UDF ``text -> struct`` (see ``SCORED``); model files travel by broadcast, the backbone does not."""
    broadcast, settings = broadcast_or_inline(spark, WorkerModel.of(artifact)), engine_settings(spark, engine)

    @F.pandas_udf(SCORED)  # type: ignore[call-overload]
    def score_texts(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for scored in score_batches(batches, broadcast.value, settings):
            yield pd.DataFrame([vars(result) for result in scored])

    # Without this the optimiser may copy the call, and each copy runs the model.
    return score_texts.asNondeterministic()


def probability_udf(spark: SparkSession, artifact: Artifact, engine: EngineConfig) -> Any:
    """Make the UDF ``text -> map<string,double>`` of label and probability; null for a text without a score.

    Probabilities are rounded to float32 as in the table ``scores``. Spark fails at a text that is not valid UTF-8.
    """
    broadcast, settings = broadcast_or_inline(spark, WorkerModel.of(artifact)), engine_settings(spark, engine)
    labels = artifact.manifest.labels
    names = [label.name for label in labels]

    def to_map(logits: np.ndarray | None) -> dict[str, float] | None:
        if logits is None:
            return None
        return dict(zip(names, probabilities(logits, labels).astype(float).tolist(), strict=True))

    @F.pandas_udf(T.MapType(T.StringType(), T.DoubleType()))  # type: ignore[call-overload]
    def score_labels(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for scored in score_batches(batches, broadcast.value, settings):
            yield pd.Series([to_map(result.logits) for result in scored], dtype=object)

    return score_labels


def engine_settings(spark: SparkSession, engine: EngineConfig) -> EngineConfig:
    """Resolve dtype and threads for the tasks of a session; a worker has the threads of its task's cores."""
    dtype, gpus = engine.dtype, float(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0)
    if dtype == "auto":
        on_gpu = engine.kind == "torch" and (engine.device == "cuda" or (engine.device == "auto" and gpus > 0))
        dtype = "bfloat16" if (_executor_has_bfloat16(spark) if on_gpu else has_bfloat16("cpu")) else "float32"
    return engine.model_copy(update={"dtype": dtype, "threads": engine.threads or _cores_of_a_task(spark)})


def _executor_has_bfloat16(spark: SparkSession) -> bool:
    """Ask a task, since the driver may have no GPU."""
    answers = spark.range(1).mapInPandas(
        lambda batches: (pd.DataFrame({"found": [has_bfloat16("cuda")]}) for _ in batches), "found boolean"
    )
    return bool(answers.first()[0])  # type: ignore[index]


def task_slots(spark: SparkSession) -> int:
    """Return how many tasks run at once by their cores; GPUs may allow fewer."""
    return max(1, count_cores(spark) // _cores_of_a_task(spark))


def _cores_of_a_task(spark: SparkSession) -> int:
    return int(spark.conf.get("spark.task.cpus", "1") or 1)
