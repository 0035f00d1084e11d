"""Score distinct texts into the staging table, slice by slice.

Each slice is one Delta commit, so a night that is killed goes on after its last slices. Staging also
keeps the model out of MERGE, which may read its source more than once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyspark import StorageLevel, inheritable_thread_target
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from ptec_udf.config import EngineConfig
from ptec_udf.engine.udf import Counters, scoring_udf, task_slots
from ptec_udf.log import seconds_left, watched
from ptec_udf.model.artifact import Artifact
from ptec_udf.nightly.tasks import deal, scored_slice, slices_of
from ptec_udf.warehouse.remote import describe_jobs, is_remote, off_its_tables, tasks_told
from ptec_udf.warehouse.tables import Warehouse

# While a slice is being committed, and its last tasks leave cores idle, the next one is scored.
_SLICES_AT_ONCE = 2
_FIELDS = ("status", "n_tokens", "n_truncated", "error", "logits")

_Score = Callable[[DataFrame, Row], DataFrame]


@dataclass(frozen=True)
class Staged:
    """What scoring did in this process: seconds and number of texts (earlier slices are not counted)."""

    texts: int = 0
    seconds: float = 0.0


def known_texts(warehouse: Warehouse, standing: DataFrame, *, model_id: str, run_id: str) -> DataFrame:
    """Return what is already known of texts: text_hash, then the scored fields.

    Scores that stand, under this model or one that shares its logits, and staged ones serve alike: equal texts have
    equal logits. A text that failed in another run is not known, since what failed there may pass here.
    """
    has_logits = F.col("logits").isNotNull()
    usable = standing.where(has_logits).select("text_hash", *_FIELDS)
    staged = warehouse.read("score_staging").where(F.col("model_id") == model_id)
    staged = staged.where(has_logits | (F.col("run_id") == run_id)).select("text_hash", *_FIELDS)
    # What failed in this run may have been scored in another one since.
    best = F.max_by(F.struct(*_FIELDS), has_logits).alias("best")
    return staged.unionByName(usable).groupBy("text_hash").agg(best).select("text_hash", "best.*")


def forget_errors(warehouse: Warehouse, *, model_id: str, run_id: str) -> None:
    """Remove texts that a run has staged without logits, so that it tries them again."""
    of_run = (F.col("model_id") == F.lit(model_id)) & (F.col("run_id") == F.lit(run_id))
    warehouse.delete("score_staging", of_run & F.col("logits").isNull())


def fresh_texts(changes: DataFrame, known: DataFrame) -> DataFrame:
    """Return what is to be scored: text_hash and text, each distinct text once.

    Args:
        changes: rows of ``diff.marked``.
        known: from ``known_texts``.
    """
    wanted = changes.where(F.col("text").isNotNull()).select("text_hash", "text").dropDuplicates(["text_hash"])
    return wanted.join(known.select("text_hash"), on="text_hash", how="left_anti")


def stage(
    warehouse: Warehouse,
    texts: DataFrame,
    *,
    artifact: Artifact,
    engine: EngineConfig,
    n_slices: int,
    run_id: str,
) -> Staged:
    """Score texts into staging.

    Args:
        warehouse: where staging is.
        texts: text_hash and text, each hash once.
        artifact: the model.
        engine: arithmetic and batching.
        n_slices: number of commits, of which a rerun does those that are missing. Where it is the same in a rerun,
            and with it the number of slots and the arithmetic, a text meets the same others in its batch, and its
            logits are equal to the last bit.
        run_id: stands with every staged row.
    """
    spark = warehouse.spark
    most_tokens = artifact.manifest.max_tokens
    dealt = deal(texts, n_slices=n_slices, n_slots=task_slots(spark), most_tokens=most_tokens)
    dealt = off_its_tables(dealt).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        slices = slices_of(dealt)
        if not slices:
            return Staged()
        counters, started = Counters.of(spark, most_tokens), time.monotonic()
        in_tasks = None if is_remote(spark) else counters
        tasks: dict[int, tuple[int, int]] = {}
        score = _alone(warehouse, artifact, engine, in_tasks)
        n_texts, whole = (sum(one[name] for one in slices) for name in ("texts", "cost"))

        def write(one: Row) -> None:
            describe_jobs(spark, f"ptec: slice {one['slice'] + 1} of {n_slices}")
            origin = {"run_id": F.lit(run_id), "staged_at": F.current_timestamp()}
            with tasks_told(spark, lambda ended, n_tasks: tasks.update({one["slice"] + 1: (ended, n_tasks)})):
                warehouse.append("score_staging", score(dealt, one).withColumns(origin))
            tasks.pop(one["slice"] + 1, None)
            if in_tasks is None:
                counters.texts.add(one["texts"])
                counters.cost.add(one["cost"])

        with watched(lambda seconds: _line(counters, n_texts, whole, seconds, dict(tasks))):
            _in_turn(write, slices, inheritable_thread_target(spark))
    finally:
        dealt.unpersist()
    return Staged(n_texts, time.monotonic() - started)


def _alone(warehouse: Warehouse, artifact: Artifact, engine: EngineConfig, counters: Counters | None) -> _Score:
    """Return what scores a slice of dealt texts: text_hash, model_id and the scored fields."""
    score = scoring_udf(warehouse.spark, artifact, engine, counters)
    named = F.lit(artifact.model_id)
    return lambda dealt, one: scored_slice(dealt, one, score("text")).withColumn("model_id", named)


def _in_turn(
    write: Callable[[Row], None],
    slices: list[Row],
    own: Callable[[Callable[[Row], None]], Callable[[Row], None]] = lambda write: write,
) -> None:
    """Write slices, some at once; after a failure those that have begun are ended, and no other is begun.

    ``own`` is called for each slice: those that are written at once must not have Spark's local properties in common.
    """
    failed = threading.Event()

    def write_unless_failed(one: Row) -> None:
        if failed.is_set():
            return
        try:
            write(one)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(_SLICES_AT_ONCE) as pool:
        for written in [pool.submit(own(write_unless_failed), one) for one in slices]:
            written.result()


def _line(
    counters: Counters, n_texts: int, whole: int, seconds: float, tasks: Mapping[int, tuple[int, int]]
) -> tuple[float, str]:
    """Say how far scoring is; by cost, since the longest texts come first. ``tasks`` are of slices that are begun."""
    texts, tokens = counters.texts.value, counters.tokens.value
    share = min(1.0, counters.cost.value / whole)
    rates = f"{texts / seconds:.1f} texts/s" + (f", {tokens / seconds:.0f} tokens/s" if tokens else "")
    begun = "".join(f"; slice {one}: {ended} of {n_tasks} tasks" for one, (ended, n_tasks) in sorted(tasks.items()))
    left = seconds_left(share, seconds)
    return share, f"texts scored: {texts} of {n_texts} ({share:.0%} of the work), {rates}, {left}{begun}"
