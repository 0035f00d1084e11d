"""The UDF inside Spark: equal scores whatever the arrangement, one model load per process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ptec_udf import PtecModel
from ptec_udf.config import EngineConfig
from ptec_udf.engine.openvino_engine import convert_artifact
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.engine.udf import engine_settings, scoring_udf
from ptec_udf.engine.worker import WorkerModel, scorer_for
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_artifact, tiny_companies, tiny_text
from tests.tolerance import assert_logits_close

TEXTS = [tiny_text(company) for company in tiny_companies(150)]


@pytest.fixture(scope="module", params=[("bert", "deep"), ("llama", "input")])
def artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load_artifact(tiny_artifact(tmp_path_factory.mktemp("models"), *request.param))


def _alone(artifact: Artifact) -> np.ndarray:
    backbone, tokenizer = resolve(artifact.manifest.backbone.name).load()
    scorer = load_scorer(artifact, backbone=(backbone, tokenizer))
    return np.stack([scorer.score([text])[0].logits for text in TEXTS])


@pytest.mark.parametrize(
    ("partitions", "batch_tokens", "window_rows", "turned"),
    [(2, 64, 50, True), (7, 1, 7, False), (3, 100_000, 1, True)],
)
def test_logits_do_not_depend_on_the_arrangement(
    spark: SparkSession, artifact: Artifact, partitions: int, batch_tokens: int, window_rows: int, turned: bool
) -> None:
    engine = EngineConfig(dtype="float32", batch_tokens=batch_tokens, window_rows=window_rows)
    rows = list(enumerate(TEXTS))
    frame = spark.createDataFrame(rows[::-1] if turned else rows, "at int, text string").repartition(partitions)
    scored = frame.select("at", scoring_udf(spark, artifact, engine)("text").alias("s")).select("at", "s.*").collect()
    assert {row["status"] for row in scored} <= {"ok", "truncated"}
    found = np.array([row["logits"] for row in sorted(scored, key=lambda row: row["at"])])
    assert_logits_close(found, _alone(artifact))


def test_three_arrow_batches_load_one_model_per_process(spark: SparkSession, tmp_path: Path) -> None:
    artifact = load_artifact(tiny_artifact(tmp_path, "bert", "deep", seed=5))
    model = WorkerModel.of(artifact)
    settings = engine_settings(spark, EngineConfig(window_rows=10))

    @F.pandas_udf("pid long, scorer long, batches long")  # type: ignore[call-overload]
    def probe(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for n_batches, batch in enumerate(batches, start=1):
            scorer = scorer_for(model, settings)
            scorer.score(list(batch))
            found = {"pid": os.getpid(), "scorer": id(scorer), "batches": n_batches}
            yield pd.DataFrame(found, index=range(len(batch)))

    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "20")
    try:
        frame = spark.createDataFrame([(text,) for text in TEXTS], "text string").repartition(2)
        rows = frame.select(probe("text").alias("p")).select("p.*").collect()
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    assert max(row["batches"] for row in rows) >= 3
    scorers = {(row["pid"], row["scorer"]) for row in rows}
    assert len(scorers) == len({pid for pid, _ in scorers})


def test_openvino_scores_as_torch(spark: SparkSession, tmp_path: Path) -> None:
    artifact = load_artifact(tiny_artifact(tmp_path, "bert", "deep"))
    convert_artifact(artifact, tmp_path / "bert_deep_0")
    frame = spark.createDataFrame(list(enumerate(TEXTS)), "at int, text string").repartition(3)
    score = scoring_udf(spark, artifact, EngineConfig(kind="openvino", dtype="float32", window_rows=20))
    scored = frame.select("at", score("text").alias("s")).select("at", "s.*").collect()
    found = np.array([row["logits"] for row in sorted(scored, key=lambda row: row["at"])])
    np.testing.assert_allclose(found, _alone(artifact), rtol=1e-4, atol=2e-4)


def test_probabilities_are_those_of_the_model_in_python(spark: SparkSession, artifact: Artifact) -> None:
    model = PtecModel(artifact)
    rows = list(enumerate([*TEXTS, None, " "]))
    frame = spark.createDataFrame(rows, "at int, text string").repartition(3)
    found = frame.withColumn("scores", model.udf(dtype="float32")("text")).orderBy("at").collect()
    expected = model.predict_proba([text for _, text in rows])
    assert [row["scores"] for row in found[len(TEXTS) :]] == [None, None]
    scores = pd.DataFrame([row["scores"] for row in found[: len(TEXTS)]])
    np.testing.assert_allclose(scores[model.labels], expected[: len(TEXTS)], atol=1e-5)
