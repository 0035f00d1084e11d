"""How fast texts are scored here: some passes over drawn texts, arranged as a night arranges them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ptec_udf.config import EngineConfig
from ptec_udf.engine.udf import Counters, scoring_udf, task_slots
from ptec_udf.model.artifact import Artifact

_PASSES = 5
_MOST_GROWTH = 8.0  # of a pass over the one before, whose rate says the less the shorter it was
_LEAST_TEXTS_OF_A_SLOT = 8  # of a pass; with fewer, slots would wait for each other
_PARTS = 2**20
# Two-sided 95 % points of Student's t, by degrees of freedom.
_T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78}


@dataclass(frozen=True)
class Pass:
    """One pass of scoring.

    Attributes:
        texts: that were scored.
        cost: of these texts, as ``stage.cost`` counts it.
        tokens: that were read of them.
        seconds: that it took.
    """

    texts: int
    cost: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Rate:
    """What passes say of all texts.

    Attributes:
        seconds_per_cost: mean over passes.
        margin: half of its 95 % interval, as a share of it; infinite for a single pass.
        tokens_per_cost: mean over passes.
    """

    seconds_per_cost: float
    margin: float
    tokens_per_cost: float

    @classmethod
    def of(cls, passes: Sequence[Pass]) -> Rate:
        """Sum up passes over texts that were drawn by chance."""
        cost = sum(one.cost for one in passes)
        mean = sum(one.seconds for one in passes) / cost
        margin = math.inf
        if len(passes) > 1:
            spread = statistics.stdev(one.seconds / one.cost for one in passes)
            margin = _T[min(len(passes) - 1, max(_T))] * spread / math.sqrt(len(passes)) / mean
        return cls(mean, margin, sum(one.tokens for one in passes) / cost)


def timed_passes(
    spark: SparkSession, texts: DataFrame, *, n_texts: int, artifact: Artifact, engine: EngineConfig, seconds: float
) -> Iterator[Pass]:
    """Score drawn texts in five passes, no text twice, after some that load the model and find out how many to take.

    Where the texts are used up before a pass is long enough to tell a rate, the longest one is returned.

    Args:
        spark: the session.
        texts: text_hash, text and cost, each hash once; read several times.
        n_texts: their number.
        artifact: the model.
        engine: arithmetic and batching.
        seconds: about so long the five passes take together.
    """
    least = min(1.0, _LEAST_TEXTS_OF_A_SLOT * task_slots(spark) / n_texts)
    _scored(spark, _drawn(texts, 0.0, least), artifact, engine)  # loads the model
    low, share, told, longest = 0.0, least, 0, None
    while low < 1.0 and told < _PASSES:
        found = _scored(spark, _drawn(texts, low, low + share), artifact, engine)
        low += share
        if found is None:  # of a few texts, none had its hash there
            share *= 2
            continue
        longest = max(found, longest or found, key=lambda one: one.seconds)
        if found.seconds >= seconds / _PASSES / 2:
            told += 1
            yield found
        elif not told:
            share *= min(_MOST_GROWTH, seconds / _PASSES / found.seconds)
    if not told and longest is not None:
        yield longest


def _drawn(texts: DataFrame, low: float, high: float) -> DataFrame:
    """Draw the texts whose hash lies in a part of its range, from 0 to 1."""
    part = F.pmod(F.xxhash64("text_hash"), F.lit(_PARTS)) / _PARTS
    return texts.where((part >= low) & (part < high))


def _scored(spark: SparkSession, texts: DataFrame, artifact: Artifact, engine: EngineConfig) -> Pass | None:
    """Score texts (text_hash, text, cost) in two tasks a slot; None where there are none."""
    n_slots = task_slots(spark)
    work = texts.agg(F.count("*").alias("texts"), F.sum("cost").alias("cost")).collect()[0]
    if not work["texts"]:
        return None
    counters, started = Counters.of(spark, artifact.manifest.max_tokens), time.monotonic()
    sorted_texts = texts.repartition(2 * n_slots, "text_hash").sortWithinPartitions(F.desc("cost"))
    scored = sorted_texts.select(scoring_udf(spark, artifact, engine, counters)("text"))
    scored.write.format("noop").mode("overwrite").save()
    return Pass(work["texts"], work["cost"], counters.tokens.value, time.monotonic() - started)
