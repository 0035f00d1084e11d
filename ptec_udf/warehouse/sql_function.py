"""``ptec_score(text)`` in SQL: the champion's probabilities of any text.

A session function, since Spark cannot keep a Python one; no view may use it. ``ptec sql`` registers it by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ptec_udf.config import EngineConfig
from ptec_udf.engine.udf import engine_settings
from ptec_udf.engine.worker import WorkerModel, score_batches
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.calibration import probabilities
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.remote import broadcast_or_inline
from ptec_udf.warehouse.tables import Warehouse


def register_ptec_score(spark: SparkSession, database: str = "ptec", *, engine: EngineConfig | None = None) -> None:
    """Register ``ptec_score(text) -> map<string,double>`` in this session; null for a text without a score.

    Spark fails at a text that is not valid UTF-8: pass it as ``make_valid_utf8(text)``.
    """
    model = registry.find(Warehouse(spark, database), alias="champion")
    artifact = load_artifact(model["location"], model["model_id"])
    broadcast = broadcast_or_inline(spark, WorkerModel.of(artifact))
    settings = engine_settings(spark, engine or EngineConfig())
    manifest = artifact.manifest
    names = [label.name for label in manifest.labels]

    def to_map(logits: np.ndarray | None) -> dict[str, float] | None:
        if logits is None:
            return None
        # Rounded to float32 as in the scores table.
        found = probabilities(logits, manifest.labels)
        return dict(zip(names, found.astype(float).tolist(), strict=True))

    @F.pandas_udf(T.MapType(T.StringType(), T.DoubleType()))  # type: ignore[call-overload]
    def ptec_score(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for scored in score_batches(batches, broadcast.value, settings):
            yield pd.Series([to_map(result.logits) for result in scored], dtype=object)

    spark.udf.register("ptec_score", ptec_score)
