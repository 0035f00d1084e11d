"""A standalone cluster whose second worker joins during a run: ``python -m tests.e2e.test_growing_cluster FOLDER``."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyspark
import pytest

from ptec_udf.config import WarehouseConfig
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from tests.processes import ROOT, TIMEOUT_S, environment, free_port, n_commits, wait_for_port
from tests.quick import QUICK
from tests.spark.support import SMALL_COMMITS, Site, companies

_CLASSES = "org.apache.spark.deploy"


class TestSecondWorker:
    @pytest.mark.long
    def test_joins_and_gets_work(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "tests.e2e.test_growing_cluster", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.strip().splitlines()[-1])
        assert found["counts"] == {"ok": 610}
        assert found["workers_at_start"] == 1
        assert len(found["tasks"]) == 2
        assert min(found["tasks"]) > 0


def daemon(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a master or a worker of Spark's standalone cluster."""
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    variables = environment() | {"SPARK_WORKER_DIR": str(folder / name), "SPARK_LOCAL_IP": "127.0.0.1"}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([str(spark_class), *arguments], env=variables, stdout=log, stderr=log)


def run(folder: Path) -> None:
    """Score with one worker, start another after the first commit, and count the tasks of both executors."""
    port = free_port()
    address = f"spark://127.0.0.1:{port}"
    worker = (f"{_CLASSES}.worker.Worker", "--cores", "1", "--memory", "1g", "--webui-port", "0", address)
    master = (f"{_CLASSES}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
    daemons = [daemon(folder, "master", *master)]
    wait_for_port(port, daemons[0])
    daemons.append(daemon(folder, "first", *worker))
    config = WarehouseConfig(folder=str(folder / "warehouse"), master=address, spark=QUICK)
    spark = build_session(config, "growing")
    try:
        site = Site(Warehouse(spark), folder / "models")
        site.warehouse.ensure()
        site.write(companies(600))
        site.champion()
        staging = site.location("score_staging")
        before, started = n_commits(staging), len(executor_tasks(spark))

        def join() -> None:
            while n_commits(staging) == before:
                time.sleep(0.05)
            daemons.append(daemon(folder, "second", *worker))

        threading.Thread(target=join, daemon=True).start()
        counts = site.run(*SMALL_COMMITS)["counts"]
        facts = {"counts": counts, "workers_at_start": started, "tasks": executor_tasks(spark)}
        print(json.dumps(facts))  # noqa: T201
    finally:
        spark.stop()
        for one in reversed(daemons):
            one.terminate()
            one.wait(60)


def executor_tasks(spark: pyspark.sql.SparkSession) -> list[int]:
    """Return the number of completed tasks of each executor."""
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(False)
    found = [executors.apply(at) for at in range(executors.size())]
    return [one.completedTasks() for one in found if one.id() != "driver"]


if __name__ == "__main__":
    run(Path(sys.argv[1]))
