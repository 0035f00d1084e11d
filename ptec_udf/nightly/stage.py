"""Score distinct texts into the staging table, slice by slice.

Each slice is one Delta commit, so a night that is killed goes on after its last slice. Staging also
keeps the model out of MERGE, which may read its source more than once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ptec_udf.config import EngineConfig
from ptec_udf.engine.udf import scoring_udf
from ptec_udf.model.artifact import Artifact
from ptec_udf.progress import progress
from ptec_udf.warehouse.tables import Warehouse

# Several tasks per core let fast ones take over work, and move the progress line.
_TASKS_PER_SLOT = 2
_FIELDS = ("status", "n_tokens", "n_truncated", "error", "logits")


@dataclass(frozen=True)
class Staged:
    """What scoring did in this process: seconds and number of texts (earlier slices are not counted)."""

    texts: int
    seconds: float


def known_texts(warehouse: Warehouse, standing: DataFrame, *, model_id: str, run_id: str) -> DataFrame:
    """Return what is already known of texts: text_hash, then the scored fields.

    Scores that stand, under this model or one that shares its logits, and staged ones serve alike: equal texts have
    equal logits. A text that failed in another run is not known, since what failed there may pass here.
    """
    has_logits = F.col("logits").isNotNull()
    usable = standing.where(has_logits).select("text_hash", *_FIELDS)
    staged = warehouse.read("score_staging").where(F.col("model_id") == model_id)
    staged = staged.where(has_logits | (F.col("run_id") == run_id)).select("text_hash", *_FIELDS)
    return staged.unionByName(usable).dropDuplicates(["text_hash"])


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
        texts: text_hash and text, each hash once; read several times.
        artifact: the model.
        engine: arithmetic and batching.
        n_slices: number of commits, of which a rerun does those that are missing. It must be the same in
            a rerun: a text then meets the same others in its batch, and its logits are equal to the last bit.
        run_id: stands with every staged row.
    """
    # The hash is uniform, so its first digits deal texts evenly.
    slice_of = F.pmod(F.conv(F.substring("text_hash", 1, 8), 16, 10).cast("long"), F.lit(n_slices))
    dealt = texts.withColumn("slice", slice_of)
    sizes = {row["slice"]: row["count"] for row in dealt.groupBy("slice").count().collect()}
    if not sizes:
        return Staged(0, 0.0)
    score = scoring_udf(warehouse.spark, artifact, engine)
    n_tasks = warehouse.spark.sparkContext.defaultParallelism * _TASKS_PER_SLOT
    started = time.monotonic()
    with progress("texts scored", sum(sizes.values())) as step:
        for at, size in sorted(sizes.items()):
            scored = (
                dealt.where(F.col("slice") == at)
                .repartition(n_tasks, "text_hash")
                .sortWithinPartitions("text_hash")
                .select("text_hash", score("text").alias("scored"))
                .select(
                    F.lit(artifact.model_id).alias("model_id"),
                    "text_hash",
                    "scored.*",
                    F.lit(run_id).alias("run_id"),
                    F.current_timestamp().alias("staged_at"),
                )
            )
            warehouse.append("score_staging", scored)
            step(size)
    return Staged(sum(sizes.values()), time.monotonic() - started)
