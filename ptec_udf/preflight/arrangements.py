"""Ways to arrange the same texts, in this process and on Spark's workers, and what each makes of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession

from ptec_udf.config import EngineConfig
from ptec_udf.engine.device import Dtype
from ptec_udf.engine.result import ScoredText
from ptec_udf.engine.scorer import BATCH_TOKENS, Scorer
from ptec_udf.engine.tfidf_scorer import TfidfScorer
from ptec_udf.engine.udf import scoring_udf, windows
from ptec_udf.model.artifact import Artifact

FEW = 7
"""Rows of a small window: with any larger number of texts their batches are others than those of all rows."""

_NO_BOUND = 2**62  # bytes of a window, where its rows are to decide


@dataclass(frozen=True)
class Arrangement:
    """One way to arrange texts.

    Attributes:
        name: what a user is shown.
        engine: arithmetic, budget and window.
        partitions: number of Spark's partitions; None: scored in this process.
        shuffled: whether texts come in another order.
        in_bfloat16: whether it is among those that are tried in bfloat16 too.
    """

    name: str
    engine: EngineConfig
    partitions: int | None = None
    shuffled: bool = False
    in_bfloat16: bool = False


def arrangements(engine: EngineConfig, lengths: Sequence[int], dtype: Dtype) -> list[Arrangement]:
    """List what is tried in one arithmetic.

    Args:
        engine: as a night has it.
        lengths: token positions of each text of the sample.
        dtype: arithmetic of the backbone. In bfloat16, whose own rounding is far larger than what a batch does, only
            those are tried that pad least, as configured, and most.
    """
    every, longest = len(lengths), max(lengths)

    def of(batch_tokens: int, window_rows: int) -> EngineConfig:
        return engine.model_copy(
            update={"dtype": dtype, "batch_tokens": batch_tokens, "window_rows": window_rows, "window_bytes": _NO_BOUND}
        )

    one, some, own, whole = 1, FEW * longest, engine.batch_tokens or BATCH_TOKENS, max(1, every * longest)
    as_configured = engine.model_copy(update={"dtype": dtype})
    tried = [
        Arrangement("driver, each text a batch", of(one, every), in_bfloat16=True),
        Arrangement(f"driver, batches of {some} positions", of(max(1, some), every)),
        Arrangement("driver, as configured", as_configured, in_bfloat16=True),
        Arrangement("driver, one batch", of(whole, every), in_bfloat16=True),
        Arrangement("driver, windows of 1", of(own, 1)),
        Arrangement(f"driver, windows of {FEW}", of(whole, FEW)),
        Arrangement("driver, shuffled, one batch", of(whole, every), shuffled=True),
        Arrangement(f"driver, shuffled, windows of {FEW}", of(whole, FEW), shuffled=True, in_bfloat16=True),
        Arrangement("Spark, 1 partition, as configured", as_configured, 1),
        Arrangement("Spark, 1 partition, one batch", of(whole, every), 1),
        Arrangement(f"Spark, 2 partitions, shuffled, windows of {FEW}", of(whole, FEW), 2, True, in_bfloat16=True),
        Arrangement("Spark, 7 partitions, shuffled, windows of 3", of(own, 3), 7, True),
    ]
    return tried if dtype == "float32" else [one for one in tried if one.in_bfloat16]


def score_in_driver(
    scorer: Scorer | TfidfScorer, texts: Sequence[str], arrangement: Arrangement, seed: int
) -> list[ScoredText]:
    """Score texts in this process, window by window as a worker does; the result has the order of the texts.

    Args:
        scorer: the model in the arrangement's arithmetic; its budget is set.
        texts: the sample.
        arrangement: budget, window and order.
        seed: decides the other order.
    """
    if isinstance(scorer, Scorer):
        scorer.batch_tokens = arrangement.engine.batch_tokens or BATCH_TOKENS
    order = _order(len(texts), arrangement, seed)
    series = pd.Series([texts[at] for at in order], dtype=object)
    read_ahead = windows(iter([series]), arrangement.engine.window_rows, arrangement.engine.window_bytes)
    found = dict(zip(order, _scored(scorer, read_ahead), strict=True))
    return [found[at] for at in range(len(texts))]


def score_on_spark(
    spark: SparkSession, artifact: Artifact, texts: Sequence[str], arrangement: Arrangement, seed: int
) -> list[ScoredText]:
    """Score texts by the UDF of a night; the result has the order of the texts.

    A text that does not come back is an ``error``.
    """
    rows = [(at, texts[at]) for at in _order(len(texts), arrangement, seed)]
    frame = spark.createDataFrame(rows, "at int, text string").repartition(arrangement.partitions or 1)
    score = scoring_udf(spark, artifact, arrangement.engine)
    scored = frame.select("at", score("text").alias("scored")).select("at", "scored.status", "scored.logits").collect()
    found = {row["at"]: ScoredText(row["status"], logits=_array(row["logits"])) for row in scored}
    lost = ScoredText("error", error="it did not come back")
    return [found.get(at, lost) for at in range(len(texts))]


def _array(logits: list[float] | None) -> np.ndarray | None:
    """Make an array of a row's logits, *Shape:* ``(n_labels,)``."""
    return None if logits is None else np.array(logits, np.float32)


def _order(n: int, arrangement: Arrangement, seed: int) -> list[int]:
    """Return the positions of texts in the order in which they are given."""
    order = list(range(n))
    if arrangement.shuffled:
        random.Random(seed).shuffle(order)
    return order


def _scored(scorer: Scorer | TfidfScorer, read_ahead: Iterator[list[str | None]]) -> Iterator[ScoredText]:
    """Score window after window."""
    for window in read_ahead:
        yield from scorer.score(window)
