"""One measurement of ``benchmarks.memory``: a session with so many workers that all have scored, and what they hold."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from pyspark.sql import functions as F

from ptec_udf.config import EngineConfig, WarehouseConfig
from ptec_udf.engine.host import PLACE
from ptec_udf.engine.udf import scoring_udf
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse.session import DAEMON, build_session

SHARED, APART = "shared", "apart"
_ROWS_OF_A_TASK = 600
_SPARKS_OWN = "pyspark.daemon"
_WORDS = "We build software and machines for farms, banks and hospitals, and sell them in many countries. "


def main(artifact: str, n_workers: int, arm: str, dtype: str) -> None:
    """Score with so many workers at once, and print their memory as JSON.

    Raises:
        RuntimeError: when another number of workers is there.
    """
    daemon = DAEMON if arm == SHARED else _SPARKS_OWN
    with tempfile.TemporaryDirectory() as folder:
        if arm == APART:
            os.environ[PLACE] = "/dev/null/none"  # cannot be a folder, so each worker holds weights of its own
        settings = {"spark.python.daemon.module": daemon, "spark.ui.enabled": False}
        spark = build_session(WarehouseConfig(folder=folder, master=f"local[{n_workers},4]", spark=settings))
        score = scoring_udf(spark, load_artifact(artifact), EngineConfig(dtype=dtype))
        rows = spark.range(0, n_workers * _ROWS_OF_A_TASK, 1, n_workers)
        texts = rows.select(F.concat(F.col("id").cast("string"), F.repeat(F.lit(_WORDS), 6)).alias("text"))
        texts.select(score("text")).write.format("noop").mode("overwrite").save()
        held = _pss_of(daemon)
        spark.stop()
    if len(held) != n_workers + 1:
        raise RuntimeError(f"{n_workers} workers and their daemon were wanted, found {len(held)} processes")
    sys.stdout.write(json.dumps({"megabytes": sum(held) / 1024}))


def _pss_of(module: str) -> list[int]:
    """Proportional set sizes, in KiB, of a daemon and the workers that it has forked."""
    sizes = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"-m\0{module}\0".encode() in (process / "cmdline").read_bytes():
                lines = (process / "smaps_rollup").read_text(encoding="ascii").splitlines()
                sizes.append(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")))
        except OSError:
            continue  # it has ended meanwhile
    return sizes


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
