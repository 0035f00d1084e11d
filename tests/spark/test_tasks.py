"""Assignment of texts to tasks."""

from __future__ import annotations

import hashlib

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ptec_udf.nightly.tasks import TaskPlan, assign_tasks, token_cost


def test_tasks_are_even_and_the_first_has_the_longest(spark: SparkSession) -> None:
    counts = {64: 200, 16: 800, 4: 1600}
    texts = [(hashlib.sha256(f"{cost}-{n}".encode()).hexdigest(), cost) for cost in counts for n in range(counts[cost])]
    plan = TaskPlan(counts, task_cost=2000)
    assigned = assign_tasks(spark.createDataFrame(texts, "text_hash string, cost long"), plan)
    summed = assigned.groupBy("task").agg(F.sum("cost").alias("sum"), F.max("cost").alias("max")).collect()
    tasks = {row["task"]: row for row in summed}
    assert sorted(tasks) == list(range(plan.n_tasks))
    assert sum(row["sum"] for row in tasks.values()) == plan.total
    assert all(1200 < tasks[task]["sum"] < 2800 for task in range(plan.n_tasks - 1))
    assert [tasks[0]["max"], tasks[plan.n_tasks - 1]["max"]] == [64, 4]


def test_cost_of_a_text(spark: SparkSession) -> None:
    texts = spark.createDataFrame([("",), ("abcd",), ("a" * 400,), (None,)], "text string")
    assert [row[0] for row in texts.select(token_cost(50)).collect()] == [1, 2, 50, None]
    assert [row[0] for row in texts.select(token_cost(None)).collect()] == [1, 2, 101, None]
