"""Texts to logits inside Spark: an iterator pandas UDF around the scorer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pyspark import Accumulator
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ptec_udf.config import EngineConfig
from ptec_udf.engine.device import GPU_BATCH_TOKENS, resolve_dtype
from ptec_udf.engine.result import ScoredText
from ptec_udf.engine.worker import EngineSettings, scorer_for, trim_heap
from ptec_udf.model.artifact import Artifact
from ptec_udf.warehouse.remote import carried, cores, counter

SCORED = T.StructType(
    [
        T.StructField("status", T.StringType()),
        T.StructField("n_tokens", T.IntegerType()),
        T.StructField("n_truncated", T.IntegerType()),
        T.StructField("error", T.StringType()),
        T.StructField("logits", T.ArrayType(T.FloatType())),
        T.StructField("batch_positions", T.IntegerType()),
    ]
)


BYTES_PER_TOKEN = 4
"""About so many, in English."""


def cost_of(text: str | None, most_tokens: int | None) -> int:
    """Say how much work a text is, in bytes, of which those that are cut off are none."""
    n_bytes = len(text.encode()) if text else 0
    return min(n_bytes, n_bytes if most_tokens is None else most_tokens * BYTES_PER_TOKEN) + BYTES_PER_TOKEN


@dataclass(frozen=True)
class Counters:
    """What tasks have scored, for a progress line: known when a task ends, and twice for one that is run again.

    Attributes:
        texts: number of texts.
        cost: of these texts, as of ``cost_of``.
        tokens: that were read of them.
        most_tokens: of a text, that the model reads; None: all.
    """

    texts: Accumulator[int]
    cost: Accumulator[int]
    tokens: Accumulator[int]
    most_tokens: int | None

    @classmethod
    def of(cls, spark: SparkSession, most_tokens: int | None) -> Counters:
        """Make counters of a session, at 0."""
        texts, cost, tokens = (counter(spark) for _ in range(3))
        return cls(texts, cost, tokens, most_tokens)

    def add(self, texts: Sequence[str | None], results: Sequence[ScoredText]) -> None:
        """Count texts as scored; called in tasks."""
        self.texts.add(len(texts))
        self.cost.add(sum(cost_of(text, self.most_tokens) for text in texts))
        self.tokens.add(sum(result.n_tokens for result in results))


def task_slots(spark: SparkSession) -> int:
    """Return how many tasks run at once: cores by those of a task. GPUs, which may allow fewer, are not looked at."""
    return max(1, cores(spark) // _cores_of_a_task(spark))


def _cores_of_a_task(spark: SparkSession) -> int:
    return int(spark.conf.get("spark.task.cpus", "1") or 1)


def scoring_udf(
    spark: SparkSession,
    artifact: Artifact,
    engine: EngineConfig,
    counters: Counters | None = None,
) -> Any:
    """Make the UDF ``text -> struct`` (see ``SCORED``).

    Prompt, head and manifest travel by broadcast; the backbone is resolved where the task runs.
    Arrow batches are read ahead up to a window, sorted by length, scored, and given back in order.

    Args:
        spark: the session.
        artifact: the model.
        engine: arithmetic and batching.
        counters: are added to as texts are scored.
    """
    broadcast = carried(spark, artifact.scoring_files)
    model_id = artifact.model_id
    settings = engine_settings(spark, engine)

    @F.pandas_udf(SCORED)  # type: ignore[call-overload]
    def score_texts(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for window in windows(batches, settings.window_rows, settings.window_bytes):
            results = scorer_for(model_id, broadcast.value, settings).score(window)
            if counters is not None:
                counters.add(window, results)
            yield to_frame(results)
        trim_heap()

    # Without this the optimiser may copy the call, and each copy runs the model.
    return score_texts.asNondeterministic()


def engine_settings(spark: SparkSession, engine: EngineConfig) -> EngineSettings:
    """Fill in the arithmetic, and a task's share of cores as its threads, so that workers do not fight over them."""
    threads = engine.threads or _cores_of_a_task(spark)
    gpus = gpus_of_a_task(spark)
    dtype = resolve_dtype(engine.dtype, on_gpu=gpus > 0)
    batch_tokens = GPU_BATCH_TOKENS if engine.batch_tokens is None and 0 < gpus < 1 else engine.batch_tokens
    return EngineSettings(dtype, batch_tokens, engine.window_rows, engine.window_bytes, threads)


def gpus_of_a_task(spark: SparkSession) -> float:
    """Return how many GPUs Spark gives a task: 0 for none, less than 1 where tasks share one."""
    return float(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0)


def windows(batches: Iterator[pd.Series], most_rows: int, most_bytes: int) -> Iterator[list[str | None]]:
    """Join Arrow batches into windows of at least one and at most ``most_rows`` rows, in order.

    A window closes at ``most_rows`` rows or once it holds ``most_bytes`` bytes of text.
    """
    window: list[str | None] = []
    n_bytes = 0
    for batch in batches:
        for text in batch:
            window.append(text)
            n_bytes += len(text.encode()) if text else 0
            if len(window) >= most_rows or n_bytes >= most_bytes:
                yield window
                window, n_bytes = [], 0
    if window:
        yield window


def to_frame(results: Sequence[ScoredText]) -> pd.DataFrame:
    """Lay scored texts out as the UDF's struct, one row per text."""
    return pd.DataFrame({name: [getattr(result, name) for result in results] for name in SCORED.names})
