"""Cut scoring into tasks of equal work and commits of some minutes, by tokens and never by the number of slots."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

MAX_TASKS = 1500
"""Each task writes one staging file."""

BYTES_PER_TOKEN = 4
"""UTF-8 bytes of an average token of English text."""

_MAX_GROWTH = 4.0


def token_cost(max_tokens: int | None) -> Column:
    """Return the expected tokens of column ``text``, ``max_tokens`` at most; null without a text."""
    n_tokens = F.ceil(F.octet_length("text") / BYTES_PER_TOKEN) + 1
    return n_tokens if max_tokens is None else F.when(n_tokens > max_tokens, max_tokens).otherwise(n_tokens)


class TaskPlan:
    """Tasks of ``task_cost`` tokens over texts in the order of their cost, the longest first; of more if too many.

    ``counts`` is the number of texts by cost.
    """

    def __init__(self, counts: Mapping[int, int], task_cost: float) -> None:
        self.counts = dict(sorted(counts.items(), reverse=True))
        self.n_texts = sum(counts.values())
        self.total = sum(cost * n for cost, n in counts.items())
        self.task_cost = max(task_cost, self.total / MAX_TASKS)
        self.n_tasks = math.ceil(self.total / self.task_cost)

    def starts(self) -> list[tuple[int, int, int]]:
        """Return (cost, tokens of all longer texts, tokens of the texts of this cost)."""
        found, start = [], 0
        for cost, n in self.counts.items():
            found.append((cost, start, cost * n))
            start += cost * n
        return found


def assign_tasks(texts: DataFrame, plan: TaskPlan) -> DataFrame:
    """Add ``task`` to the texts of a plan, with text_hash and cost: 0 has the longest texts.

    Texts of equal cost are spread by their hash, which needs neither a sort nor a shuffle.
    """
    starts = texts.sparkSession.createDataFrame(plan.starts(), "cost long, start long, span long")
    share = F.conv(F.substring("text_hash", 1, 8), 16, 10).cast("double") / float(2**32)
    task = F.floor((F.col("start") + share * F.col("span")) / plan.task_cost).cast("int")
    return texts.join(F.broadcast(starts), on="cost").withColumn("task", task).drop("start", "span")


class CommitCursor:
    """Hands out ranges of tasks, each for one commit of ``commit_seconds``; safe among threads.

    The first commits have ``min_tasks``, the work of one slot. A commit that took less than its time makes the next one
    larger, up to four times, so that a few commits find out what the cluster does, also when it grows.
    """

    def __init__(self, plan: TaskPlan, commit_seconds: float, min_tasks: int) -> None:
        self.n_tasks, self.commit_seconds, self.min_tasks = plan.n_tasks, commit_seconds, min_tasks
        self._lock = threading.Lock()
        self._next, self._n_done, self._size = 0, 0, 0.0

    def take(self) -> range | None:
        """Return the tasks of the next commit; None if there is none."""
        with self._lock:
            begin = self._next
            self._next = min(begin + max(self.min_tasks, round(self._size)), self.n_tasks)
            return range(begin, self._next) if begin < self._next else None

    def done(self, tasks: range, seconds: float) -> None:
        """Record that the tasks of a commit are staged, and what that took."""
        with self._lock:
            self._n_done += len(tasks)
            self._size = len(tasks) * min(_MAX_GROWTH, self.commit_seconds / max(seconds, 1e-3))

    def stop(self) -> None:
        """Hand out no more."""
        with self._lock:
            self._next = self.n_tasks

    @property
    def share_done(self) -> float:
        """Share of the tasks that are staged, 0 to 1."""
        return self._n_done / max(self.n_tasks, 1)
