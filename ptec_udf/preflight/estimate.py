"""How long the next night will take: counted, and measured on some of its texts.

What is to be scored is found as a run finds it.
"""

from __future__ import annotations

import time
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig
from ptec_udf.engine.udf import engine_settings, task_slots
from ptec_udf.errors import PtecError
from ptec_udf.log import logger
from ptec_udf.nightly import diff
from ptec_udf.nightly.plan import ScoringRun, check, nothing_to_do, pin_run, superseded
from ptec_udf.nightly.reason import failures_of
from ptec_udf.nightly.stage import read_texts, texts_to_score
from ptec_udf.preflight.memory import workers_memory
from ptec_udf.preflight.timing import Pass, Rate, timed_passes
from ptec_udf.warehouse.remote import is_remote
from ptec_udf.warehouse.tables import Warehouse

# Measured on two cores: what a night takes beside reading, comparing and scoring, and for each company that it writes.
_WRITING_SECONDS = 12.0
_WRITING_SECONDS_OF_A_ROW = 2e-4
_MARGIN_OF_THE_REST = 0.5
_MARGIN_OF_PASSES = 0.1  # a whole night's rate was so far from theirs
_SLOTS = (1, 2, 4, 8, 16, 32, 64)


def estimate(spark: SparkSession, config: ScoreConfig) -> dict[str, Any]:
    """Say how long the next night will take, what it will score and what memory that needs.

    Returns:
        ``texts`` and ``tokens`` to score, ``companies`` to write, ``seconds`` with ``least`` and ``most`` (95 %),
        ``scoring_seconds``, rates, ``seconds_by_slots`` and ``memory_mb``; ``reason`` where there is nothing to do.

    Raises:
        UserError: for a model, source, artifact or backbone that cannot be used.
        PtecError: when Spark fails.
    """
    if is_remote(spark):
        raise PtecError(
            "ptec estimate counts where tasks run, which Spark Connect tells nobody; ask on another session"
        )
    warehouse = Warehouse(spark, config.warehouse.database)
    warehouse.ensure()
    started = time.monotonic()
    run = pin_run(warehouse, config)
    if reason := nothing_to_do(run) or superseded(run):
        logger.info(reason)
        return {"texts": 0, "companies": 0, "seconds": time.monotonic() - started, "reason": reason}
    check(run)
    if config.shadows:
        logger.info(f"shadows are not in it: {', '.join(config.shadows)}")
    with failures_of("estimate"):
        return _estimated(run, started)


def _estimated(run: ScoringRun, started: float) -> dict[str, Any]:
    """Count what the night has to do, measure how fast it scores, and put both together."""
    changes = diff.changes_of(run)
    counts = diff.count_change_types(changes)
    companies = sum(counts.get(change_type, 0) for change_type in diff.TO_WRITE)
    texts = read_texts(run, texts_to_score(run, diff.rows_to_write(run, changes)), ("cost",))
    texts = texts.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        work = texts.agg(F.count("*").alias("texts"), F.sum("cost").alias("cost"))
        whole = work.collect()[0]
        reading = time.monotonic() - started
        logger.info(f"{companies} companies to write, {whole['texts']} texts to score")
        passes = _passes(run, texts, whole)
    finally:
        texts.unpersist()
    memory = workers_memory(run.warehouse.spark) if passes else None
    rest = reading + (_WRITING_SECONDS + _WRITING_SECONDS_OF_A_ROW * companies if companies else 0.0)
    facts = {"companies": companies, "texts": whole["texts"]}
    own = {"each_worker": memory.each, "shared_by_a_host": memory.shared} if memory else None
    return facts | _put_together(run, passes, whole["cost"] or 0, rest) | {"memory_mb": own}


def _passes(run: ScoringRun, texts: DataFrame, whole: Row) -> list[Pass]:
    """Measure, and say each rate."""
    passes: list[Pass] = []
    if not whole["texts"]:
        return passes
    for one in timed_passes(
        run.warehouse.spark,
        texts,
        n_texts=whole["texts"],
        artifact=run.artifact,
        engine=run.config.engine,
        seconds=run.config.estimate.seconds,
    ):
        logger.info(f"{one.texts} texts in {one.seconds:.1f} s: {one.texts / one.seconds:.1f} texts/s")
        passes.append(one)
    return passes


def _put_together(run: ScoringRun, passes: list[Pass], whole_cost: int, rest: float) -> dict[str, Any]:
    """Say how long the night takes; ``rest`` is what takes as long on any number of slots."""
    spark = run.warehouse.spark
    slots = task_slots(spark)
    if not passes:
        return {"seconds": rest, "slots": slots}
    rate = Rate.of(passes)
    scoring = rate.seconds_per_cost * whole_cost
    margin = scoring * min(rate.margin + _MARGIN_OF_PASSES, 1.0) + rest * _MARGIN_OF_THE_REST
    tokens = rate.tokens_per_cost * whole_cost
    return {
        "seconds": scoring + rest,
        "least": max(0.0, scoring + rest - margin),
        "most": scoring + rest + margin,
        "scoring_seconds": scoring,
        "tokens": round(tokens),
        "tokens_per_second": tokens / scoring,
        "dtype": engine_settings(spark, run.config.engine).dtype if run.artifact.manifest.backbone else None,
        "slots": slots,
        "seconds_by_slots": {str(n): scoring * slots / n + rest for n in sorted({*_SLOTS, slots})},
    }
