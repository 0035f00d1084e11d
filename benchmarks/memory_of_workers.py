"""One measurement of ``benchmarks.memory``: a session with so many workers that all have scored, and what they hold."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
from pyspark.sql import functions as F

from ptec_udf.config import EngineConfig, WarehouseConfig
from ptec_udf.engine.host import PLACE
from ptec_udf.engine.udf import scoring_udf
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse.embedded import DAEMON
from ptec_udf.warehouse.session import build_session

SHARED, APART = "shared", "apart"
_ROWS_OF_A_TASK = 600
_BETWEEN = 0.2  # seconds
_SPARKS_OWN = "pyspark.daemon"
_WORDS = "We build software and machines for farms, banks and hospitals, and sell them in many countries. "


def main(artifact: str, n_workers: int, arm: str, dtype: str) -> None:
    """Score with so many workers at once, and print their memory as JSON: after it, and the most while they scored.

    Raises:
        RuntimeError: when another number of workers is there.
    """
    daemon = DAEMON if arm == SHARED else _SPARKS_OWN
    with tempfile.TemporaryDirectory() as folder:
        # What cannot be a folder leaves each worker weights of its own.
        os.environ[PLACE] = f"{folder}/weights" if arm == SHARED else "/dev/null/none"
        settings = {"spark.python.daemon.module": daemon, "spark.ui.enabled": False}
        spark = build_session(WarehouseConfig(folder=folder, master=f"local[{n_workers},4]", spark=settings))
        score = scoring_udf(spark, load_artifact(artifact), EngineConfig(dtype=dtype))
        rows = spark.range(0, n_workers * _ROWS_OF_A_TASK, 1, n_workers)
        texts = rows.select(F.concat(F.col("id").cast("string"), F.repeat(F.lit(_WORDS), 6)).alias("text"))
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(texts.select(score("text")).write.format("noop").mode("overwrite").save)
            sums = [0.0]
            while not writing.done():
                sums.append(_held(daemon)[1])
                time.sleep(_BETWEEN)
            writing.result()
        n_found, held = _held(daemon)
        spark.stop()
    if n_found != n_workers + 1:
        raise RuntimeError(f"{n_workers} workers and their daemon were wanted, found {n_found} processes")
    sys.stdout.write(json.dumps({"held": held, "at most": max(sums)}))


def _held(daemon: str) -> tuple[int, float]:
    """Count the workers and their daemon; return with their number what they hold, and this process, in MB."""
    this = psutil.Process()
    workers = [process for process in this.children(recursive=True) if _runs(process, daemon)]
    # This process and the one that started it have torch's pages too, so that a part of these counts for them.
    return len(workers), sum(map(_pss, [*workers, this, this.parent()])) / 2**20


def _runs(process: psutil.Process, module: str) -> bool:
    """Tell whether a process was started as a module of Python."""
    with suppress(psutil.NoSuchProcess):  # it has ended
        return ["-m", module] == process.cmdline()[1:3]
    return False


def _pss(process: psutil.Process | None) -> int:
    """Proportional set size of a process, in bytes; 0 of one that has ended."""
    with suppress(psutil.NoSuchProcess):
        return process.memory_full_info().pss if process else 0
    return 0


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
