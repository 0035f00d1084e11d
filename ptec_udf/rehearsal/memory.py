"""What Python workers hold in memory: each for itself, and in common with the others of a host."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession

_SECONDS_OF_A_TASK = 0.3  # so that every slot takes one


@dataclass(frozen=True)
class WorkerMemory:
    """Memory of the workers of one host, in MB.

    Attributes:
        each: what the largest worker holds alone.
        shared: what it has in common with others, the backbone's weights and imported modules.
    """

    each: float
    shared: float

    def of_executor(self, n_workers: int) -> float:
        """What an executor's workers need beside its JVM."""
        return self.shared + n_workers * self.each


def workers_memory(spark: SparkSession) -> WorkerMemory | None:
    """Ask the workers that have just scored; None where the system does not tell."""
    n_tasks = 2 * spark.sparkContext.defaultParallelism
    rows = spark.range(0, n_tasks, 1, n_tasks).mapInPandas(_memory, "host string, pid long, own double, shared double")
    found = [row for row in rows.collect() if row["own"] is not None]
    if not found:
        return None
    return WorkerMemory(max(row["own"] for row in found), max(row["shared"] for row in found))


def _memory(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Say what this process holds."""
    for _ in batches:
        time.sleep(_SECONDS_OF_A_TASK)
        sizes = _sizes()
        own = sum(sizes[name] for name in ("Private_Clean", "Private_Dirty")) if sizes else None
        shared = sum(sizes[name] for name in ("Shared_Clean", "Shared_Dirty")) if sizes else None
        yield pd.DataFrame({"host": [socket.gethostname()], "pid": [os.getpid()], "own": [own], "shared": [shared]})


def _sizes() -> dict[str, float]:
    """Read the sizes of this process, in MB; empty where Linux does not tell."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
