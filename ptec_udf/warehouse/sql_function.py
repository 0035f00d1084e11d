"""``ptec_score(text)`` in SQL: the champion's probabilities of any text.

A session function, since Spark cannot keep a Python one; no view may use it. ``ptec sql`` registers it by itself.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from ptec_udf.config import EngineConfig
from ptec_udf.engine.udf import probability_udf
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse


def register_ptec_score(spark: SparkSession, database: str = "ptec", *, engine: EngineConfig | None = None) -> None:
    """Register ``ptec_score(text) -> map<string,double>`` in this session; null for a text without a score.

    Spark fails at a text that is not valid UTF-8: pass it as ``make_valid_utf8(text)``.
    """
    model = registry.find(Warehouse(spark, database), alias="champion")
    artifact = load_artifact(model["location"], model["model_id"])
    spark.udf.register("ptec_score", probability_udf(spark, artifact, engine or EngineConfig()))
