"""Texts to logits inside Spark: an iterator pandas UDF around the scorer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ptec_udf.config import EngineConfig
from ptec_udf.engine.device import Dtype, has_bfloat16
from ptec_udf.engine.result import ScoredText
from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.tfidf_scorer import TfidfScorer
from ptec_udf.engine.worker import EngineSettings, scorer_for, trim_heap
from ptec_udf.model.artifact import Artifact
from ptec_udf.warehouse.remote import broadcast_or_inline, count_cores

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
"""UTF-8 bytes of an average token of English text."""

_SHARED_GPU_BATCH_TOKENS = 2048  # as in torch_engine.py, which imports torch


def scoring_udf(spark: SparkSession, artifact: Artifact, engine: EngineConfig) -> Any:
    """Make the UDF ``text -> struct`` (see ``SCORED``).

    Prompt, head and manifest travel by broadcast; the backbone is resolved where the task runs. Arrow batches are read
    ahead up to a window, sorted by length, scored, and returned in order.

    Args:
        spark: the session.
        artifact: the model.
        engine: dtype, device and batching.
    """
    broadcast = broadcast_or_inline(spark, artifact.scoring_files)
    model_id = artifact.model_id
    settings = engine_settings(spark, engine)

    @F.pandas_udf(SCORED)  # type: ignore[call-overload]
    def score_texts(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        read_ahead = windows(batches, settings.window_rows, settings.window_bytes)
        for _, results in score_windows(read_ahead, lambda: scorer_for(model_id, broadcast.value, settings)):
            yield to_frame(results)
        trim_heap()

    # Without this the optimiser may copy the call, and each copy runs the model.
    return score_texts.asNondeterministic()


def score_windows(
    read_ahead: Iterator[Sequence[str | None]], load: Callable[[], Scorer | TfidfScorer]
) -> Iterator[tuple[Sequence[str | None], list[ScoredText]]]:
    """Yield each window of texts with its results; on a GPU, the next window is tokenised meanwhile.

    Args:
        read_ahead: windows of texts.
        load: returns the scorer.
    """
    first = next(read_ahead, None)
    if first is None:  # an empty partition needs no model
        return
    scorer, every = load(), chain([first], read_ahead)
    if isinstance(scorer, Scorer) and scorer.engine.on_gpu:
        yield from scorer.score_ahead(every)
    else:
        yield from ((texts, scorer.score(texts)) for texts in every)


def engine_settings(spark: SparkSession, engine: EngineConfig) -> EngineSettings:
    """Resolve dtype, threads and batching for the tasks of a session; call it once per run.

    Threads of a worker are the cores of a task, so that workers do not compete for them.
    """
    gpus = gpus_of_a_task(spark)
    batch_tokens = engine.batch_tokens
    if batch_tokens is None and 0 < gpus < 1:
        batch_tokens = _SHARED_GPU_BATCH_TOKENS
    return EngineSettings(
        dtype=resolve_dtype(spark, engine),
        batch_tokens=batch_tokens,
        window_rows=engine.window_rows,
        window_bytes=engine.window_bytes,
        threads=engine.threads or _cores_of_a_task(spark),
        device=engine.device,
    )


def resolve_dtype(spark: SparkSession, engine: EngineConfig) -> Dtype:
    """Return the dtype of all tasks: ``auto`` is bfloat16 where the driver's CPU, or an executor's GPU, has it."""
    if engine.dtype != "auto":
        return engine.dtype
    on_gpu = engine.device == "cuda" or (engine.device == "auto" and gpus_of_a_task(spark) > 0)
    found = _executor_has_bfloat16(spark) if on_gpu else has_bfloat16("cpu")
    return "bfloat16" if found else "float32"


def _executor_has_bfloat16(spark: SparkSession) -> bool:
    """Ask a task, since the driver may have no GPU."""

    def ask(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            yield pd.DataFrame({"found": [has_bfloat16("cuda")] * len(batch)})

    return bool(spark.range(1).mapInPandas(ask, "found boolean").first()[0])  # type: ignore[index]


def task_slots(spark: SparkSession) -> int:
    """Return how many tasks run at once: cores by those of a task. GPUs, which may allow fewer, are not looked at."""
    return max(1, count_cores(spark) // _cores_of_a_task(spark))


def _cores_of_a_task(spark: SparkSession) -> int:
    return int(spark.conf.get("spark.task.cpus", "1") or 1)


def gpus_of_a_task(spark: SparkSession) -> float:
    """Return how many GPUs Spark assigns to a task: 0 for none, below 1 if tasks share one."""
    return float(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0)


def windows(batches: Iterator[pd.Series], max_rows: int, max_bytes: int) -> Iterator[list[str | None]]:
    """Join Arrow batches into windows of 1 to ``max_rows`` rows, in order.

    A window closes at ``max_rows`` rows or at ``max_bytes`` bytes of text.
    """
    window: list[str | None] = []
    n_bytes = 0
    for batch in batches:
        for text in batch:
            window.append(text)
            n_bytes += len(text.encode()) if text else 0
            if len(window) >= max_rows or n_bytes >= max_bytes:
                yield window
                window, n_bytes = [], 0
    if window:
        yield window


def to_frame(results: Sequence[ScoredText]) -> pd.DataFrame:
    """Lay results out as the UDF's struct, one row per text."""
    return pd.DataFrame({name: [getattr(result, name) for result in results] for name in SCORED.names})
