"""What Python workers hold in memory: each for itself, and in common with the others of a host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession

from ptec_udf.engine.udf import task_slots

_SECONDS_OF_A_TASK = 0.3  # so that every slot takes one


@dataclass(frozen=True)
class WorkerMemory:
    """Memory of workers, in MB.

    Attributes:
        each: the most that one worker has held alone.
        shared: what it has in common with others, or could have: mapped files, such as the backbone's weights, and
            imported modules.
    """

    each: float
    shared: float


def workers_memory(spark: SparkSession) -> WorkerMemory | None:
    """Ask the workers that have just scored; None where the system does not tell."""
    n_tasks = 2 * task_slots(spark)
    rows = spark.range(0, n_tasks, 1, n_tasks).mapInPandas(_memory, "own double, shared double").collect()
    found = [row for row in rows if row["own"] is not None]
    if not found:
        return None
    return WorkerMemory(max(row["own"] for row in found), max(row["shared"] for row in found))


def _memory(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Say what this process holds."""
    for _ in batches:
        time.sleep(_SECONDS_OF_A_TASK)
        found = _held()
        yield pd.DataFrame({"own": [found and found.each], "shared": [found and found.shared]})


def _held() -> WorkerMemory | None:
    """Read the sizes of this process; None where Linux does not tell."""
    try:
        now, ever = (_sizes(Path("/proc/self", name)) for name in ("smaps_rollup", "status"))
    except OSError:
        return None
    # What a forward pass needed is given back by now, so the most that was ever held counts.
    given_back = ever["VmHWM"] - ever["VmRSS"]
    return WorkerMemory(now["Private_Dirty"] + given_back, now["Rss"] - now["Private_Dirty"])


def _sizes(file: Path) -> dict[str, float]:
    """Read lines such as ``Rss:  1024 kB``, in MB."""
    lines = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    return {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[-1] == "kB"}
