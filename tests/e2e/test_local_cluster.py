"""A run on two executor JVMs: ``python -m tests.e2e.test_local_cluster FOLDER`` prints its result as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ptec_udf.config import WarehouseConfig
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from tests.processes import ROOT, TIMEOUT_S, environment
from tests.quick import QUICK
from tests.spark.support import Site, companies


class TestTwoExecutors:
    def test_both_score(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "tests.e2e.test_local_cluster", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.strip().splitlines()[-1])
        assert found["counts"] == {"ok": 130}
        assert len(found["tasks"]) == 2
        assert min(found["tasks"]) > 0


def run(folder: Path) -> None:
    """Score on a local cluster, and count the tasks of each executor."""
    config = WarehouseConfig(folder=str(folder / "warehouse"), master="local-cluster[2,1,1024]", spark=QUICK)
    spark = build_session(config, "cluster")
    try:
        site = Site(Warehouse(spark), folder / "models")
        site.warehouse.ensure()
        site.write(companies(120))
        site.champion()
        counts = site.run()["counts"]
        executors = spark.sparkContext._jsc.sc().statusStore().executorList(True)
        found = [executors.apply(at) for at in range(executors.size())]
        tasks = [one.completedTasks() for one in found if one.id() != "driver"]
        print(json.dumps({"counts": counts, "tasks": tasks}))  # noqa: T201
    finally:
        spark.stop()  # a local cluster that is left alone logs errors


if __name__ == "__main__":
    run(Path(sys.argv[1]))
