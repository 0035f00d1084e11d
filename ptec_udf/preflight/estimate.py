"""Estimate how long the next run takes: tokens to score, divided by the rate of a short calibration pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig
from ptec_udf.engine.udf import scoring_udf, task_slots
from ptec_udf.errors import SourceError
from ptec_udf.log import logger
from ptec_udf.nightly.diff import Difference, changes_of, count_change_types, rows_to_write
from ptec_udf.nightly.plan import ScoringRun, check, nothing_to_do, pin_run, superseded
from ptec_udf.nightly.stage import group_by_text, read_texts

_TEXTS_PER_SLOT = 8  # of the first pass; with fewer, slots wait for each other
_MAX_SAMPLE = 20_000  # texts that pass through the driver
_WRITING_SECONDS = 12.0  # MERGE, changes and drift of a small run on two cores
_WRITING_SECONDS_PER_ROW = 2e-4
_MEMORY_TASK_SECONDS = 0.3  # long enough that every slot takes a task


def estimate(spark: SparkSession, config: ScoreConfig) -> dict[str, Any]:
    """Estimate the next run on this session; raise UserError as ``pin_run``.

    Return ``companies`` to write, ``texts`` and ``tokens`` to score, ``tokens_per_second`` of all ``slots`` together,
    ``scoring_seconds``, ``seconds`` in all, and ``memory_mb`` of a worker; ``reason`` if there is nothing to do.
    """
    started = time.monotonic()
    run = pin_run(spark, config)
    if reason := nothing_to_do(run) or superseded(run):
        logger.info(reason)
        return {"companies": 0, "texts": 0, "seconds": time.monotonic() - started, "reason": reason}
    check(run)
    changes = changes_of(run)
    difference = Difference(count_change_types(changes), rows_to_write(run, changes))
    n_companies = difference.n_to_write
    texts = group_by_text(run, difference).where(~F.col("is_known"))
    work = texts.agg(F.count("*").alias("texts"), F.coalesce(F.sum("cost"), F.lit(0)).alias("tokens")).collect()[0]
    reading = time.monotonic() - started
    logger.info(f"{n_companies} companies to write, {work['texts']} texts to score")
    facts = {"companies": n_companies, "texts": work["texts"], "tokens": work["tokens"]}
    rest = reading + (_WRITING_SECONDS + _WRITING_SECONDS_PER_ROW * n_companies if n_companies else 0.0)
    if not work["texts"]:
        return facts | {"seconds": rest}
    rate = measure_rate(run, texts, work["texts"])
    scoring = work["tokens"] / rate
    logger.info(f"{rate:.0f} tokens/s")
    measured = {"tokens_per_second": rate, "slots": task_slots(spark), "dtype": run.dtype}
    times = {"scoring_seconds": scoring, "seconds": scoring + rest}
    return facts | measured | times | {"memory_mb": measure_memory(spark)}


def measure_rate(run: ScoringRun, texts: DataFrame, n_texts: int) -> float:
    """Score some texts on the cluster and return the expected tokens scored per second.

    The sample grows until a pass takes a third of ``estimate.seconds``, or has all texts.

    Raise SourceError for a source whose texts differ each time that it is read.
    """
    n_sample = _TEXTS_PER_SLOT * task_slots(run.warehouse.spark)
    _timed_pass(run, texts, n_sample / n_texts)  # loads the model
    while True:
        tokens, seconds = _timed_pass(run, texts, n_sample / n_texts)
        is_long = seconds >= run.config.estimate.seconds / 3
        if tokens and (is_long or n_sample >= min(n_texts, _MAX_SAMPLE)):
            return tokens / seconds
        if n_sample >= n_texts and not tokens:
            raise SourceError("the source's texts differ each time that it is read; it cannot be scored")
        n_sample *= 4


def _timed_pass(run: ScoringRun, texts: DataFrame, share: float) -> tuple[int, float]:
    """Score the share of the texts whose hash is lowest; return their tokens and the seconds of scoring."""
    position = F.pmod(F.xxhash64("text_hash"), F.lit(2**20)) / float(2**20)
    rows = read_texts(run, texts.where(position < share), ["cost"]).select("text", "cost").collect()
    if not rows:
        return 0, 0.0
    spark = run.warehouse.spark
    sample = spark.createDataFrame(rows, "text string, cost long").repartition(2 * task_slots(spark))
    score = scoring_udf(spark, run.artifact, run.config.engine)
    scored = sample.sortWithinPartitions(F.desc("cost")).select(score("text"))
    started = time.monotonic()
    scored.write.format("noop").mode("overwrite").save()
    return sum(row["cost"] for row in rows), time.monotonic() - started


def measure_memory(spark: SparkSession) -> dict[str, float]:
    """Return the largest memory of the workers that have just scored, in MB.

    ``each_worker`` is private to a worker. ``shared_by_a_host`` is mapped: weights and imported modules.
    """
    n_tasks = 2 * task_slots(spark)
    rows = spark.range(0, n_tasks, 1, n_tasks).mapInPandas(_memory, "own double, shared double")
    largest = F.max("own").alias("each_worker"), F.max("shared").alias("shared_by_a_host")
    return rows.agg(*largest).collect()[0].asDict()


def _memory(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for _ in batches:
        time.sleep(_MEMORY_TASK_SECONDS)
        now, peak = _sizes("smaps_rollup"), _sizes("status")
        own = now["Private_Dirty"] + peak["VmHWM"] - peak["VmRSS"]  # a forward pass has returned its memory
        yield pd.DataFrame({"own": [own], "shared": [now["Rss"] - now["Private_Dirty"]]})


def _sizes(name: str) -> dict[str, float]:
    """Read lines such as ``Rss:  1024 kB`` of this process, in MB."""
    lines = (line.split() for line in Path("/proc/self", name).read_text(encoding="utf-8").splitlines())
    return {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[-1] == "kB"}
