"""Deal texts to slices and tasks, so that tasks of a slice have equal work and texts of like length."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from ptec_udf.engine.udf import BYTES_PER_TOKEN

# Many small tasks let fast cores take over work, and move the line of progress.
_ROWS_OF_A_TASK = 512
_TASKS_PER_SLOT = 2


def deal(texts: DataFrame, *, n_slices: int, n_slots: int, most_tokens: int | None) -> DataFrame:
    """Deal texts to slices by their hash, and those of a slice to tasks of equal work and like length.

    Args:
        texts: text_hash and text, each hash once.
        n_slices: number of slices.
        n_slots: number of tasks that run at once.
        most_tokens: of a text, that the model reads; None: all.

    Returns:
        The texts with slice, task (0 has the longest texts of the slice), and cost, by which work is equal.
    """
    # The hash is uniform, so its first digits deal texts evenly.
    slice_of = F.pmod(F.conv(F.substring("text_hash", 1, 8), 16, 10).cast("long"), F.lit(n_slices))
    of_slice = Window.partitionBy("slice")
    longest_first = of_slice.orderBy(F.desc("cost"), "text_hash").rowsBetween(Window.unboundedPreceding, 0)
    n_tasks = F.greatest(F.lit(n_slots * _TASKS_PER_SLOT), F.ceil(F.count("*").over(of_slice) / _ROWS_OF_A_TASK))
    # The middle of a text's work, so that the last one's task is below n_tasks.
    share = (F.sum("cost").over(longest_first) - F.col("cost") / 2) / F.sum("cost").over(of_slice)
    dealt = texts.withColumn("slice", slice_of).withColumn("cost", cost(most_tokens))
    return dealt.withColumn("n_tasks", n_tasks.cast("int")).withColumn("task", F.floor(share * n_tasks).cast("int"))


def cost(most_tokens: int | None) -> Column:
    """Say how much work a text is, as ``udf.cost_of`` does."""
    n_bytes = F.octet_length("text").cast("long")
    most = n_bytes if most_tokens is None else F.least(n_bytes, F.lit(most_tokens * BYTES_PER_TOKEN))
    return most + F.lit(BYTES_PER_TOKEN)


def slices_of(dealt: DataFrame) -> list[Row]:
    """Say of each slice of ``deal``: slice, n_tasks, texts, cost."""
    sums = [F.count("*").alias("texts"), F.sum("cost").alias("cost")]
    return dealt.groupBy("slice", "n_tasks").agg(*sums).orderBy("slice").collect()


def scored_slice(dealt: DataFrame, one: Row, scored: Column) -> DataFrame:
    """Score a slice of ``deal``, each task's texts in one order; return text_hash and what ``scored`` holds."""
    return (
        dealt.where(F.col("slice") == one["slice"])
        .repartitionById(one["n_tasks"], "task")
        .sortWithinPartitions(F.desc("cost"), "text_hash")
        .select("text_hash", scored.alias("scored"))
        .select("text_hash", "scored.*")
    )
