"""Cut scoring into tasks of equal work and commits of some minutes, by tokens and never by the number of slots."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

MAX_TASKS = 1500
"""Each task writes one staging file."""

BYTES_PER_TOKEN = 4
"""UTF-8 bytes of an average token of English text."""

_MAX_GROWTH = 4.0


def token_cost(max_tokens: int | None) -> Column:
    """Return the expected tokens of column ``text``; null without a text.

    Args:
        max_tokens: tokens of a text that the model reads at most; None: all.
    """
    n_tokens = F.ceil(F.octet_length("text") / BYTES_PER_TOKEN) + 1
    return n_tokens if max_tokens is None else F.when(n_tokens > max_tokens, max_tokens).otherwise(n_tokens)


@dataclass(frozen=True)
class TaskPlan:
    """Tasks over texts in the order of their cost, the longest first.

    Attributes:
        counts: number of texts by cost, the highest cost first.
        task_cost: tokens of a task.
    """

    counts: Mapping[int, int]
    task_cost: float

    @classmethod
    def of(cls, counts: Mapping[int, int], *, task_cost: float, max_tasks: int = MAX_TASKS) -> TaskPlan:
        """Plan tasks of ``task_cost`` tokens, or of more where these would be too many tasks."""
        total = sum(cost * n for cost, n in counts.items())
        return cls(dict(sorted(counts.items(), reverse=True)), max(task_cost, total / max_tasks))

    @property
    def n_texts(self) -> int:
        """Number of texts."""
        return sum(self.counts.values())

    @property
    def total(self) -> int:
        """Tokens of all texts."""
        return sum(cost * n for cost, n in self.counts.items())

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return math.ceil(self.total / self.task_cost)

    def starts(self) -> list[tuple[int, int, int]]:
        """Return (cost, tokens of all longer texts, tokens of the texts of this cost)."""
        found, start = [], 0
        for cost, n in self.counts.items():
            found.append((cost, start, cost * n))
            start += cost * n
        return found


def assign_tasks(texts: DataFrame, plan: TaskPlan) -> DataFrame:
    """Add ``task`` to texts: 0 has the longest texts, each has about ``plan.task_cost`` tokens.

    Texts of equal cost are spread by their hash, which needs neither a sort nor a shuffle.

    Args:
        texts: text_hash and cost.
        plan: from the same texts.
    """
    spark = texts.sparkSession
    starts = spark.createDataFrame(plan.starts() or [(0, 0, 0)], "cost long, start long, span long")
    share = F.conv(F.substring("text_hash", 1, 8), 16, 10).cast("double") / float(2**32)
    task = F.floor((F.col("start") + share * F.col("span")) / plan.task_cost).cast("int")
    return texts.join(F.broadcast(starts), on="cost").withColumn("task", task).drop("start", "span")


@dataclass
class CommitCursor:
    """Hands out ranges of tasks, each for one commit; safe among threads.

    The first commits have the work of one slot. A commit that took less than its time makes the next one larger, up to
    four times, so that a few commits find out what the cluster does, also when it grows.

    Attributes:
        plan: all tasks.
        commit_seconds: wanted duration of a commit.
        min_tasks: tasks of a commit at least.
    """

    plan: TaskPlan
    commit_seconds: float
    min_tasks: int
    _next: int = 0
    _n_done: int = 0
    _size: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> range | None:
        """Return the tasks of the next commit; None if there is none."""
        with self._lock:
            begin = self._next
            self._next = min(begin + max(self.min_tasks, round(self._size)), self.plan.n_tasks)
            return range(begin, self._next) if begin < self._next else None

    def done(self, tasks: range, seconds: float) -> None:
        """Record that the tasks of a commit are staged, and what that took."""
        with self._lock:
            self._n_done += len(tasks)
            self._size = len(tasks) * min(_MAX_GROWTH, self.commit_seconds / max(seconds, 1e-3))

    def stop(self) -> None:
        """Hand out no more."""
        with self._lock:
            self._next = self.plan.n_tasks

    @property
    def share_done(self) -> float:
        """Share of the work that is staged, 0 to 1."""
        return self._n_done / self.plan.n_tasks if self.plan.n_tasks else 1.0
