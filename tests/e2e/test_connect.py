"""Runs on Spark Connect have the scores of runs on an embedded session."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import ROOT, TIMEOUT_S, environment, free_port, ptec, result_of, wait_for_port
from tests.tiny import LABELS, tiny_artifact
from tests.tolerance import assert_logits_close

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has the settings of conf/spark-defaults.conf."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": str(folder / "tables"),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "2",
    }
    confs = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    of_class = ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "--master", "local[2]"]
    command = [str(Path(sys.executable).with_name("spark-submit")), *of_class, "--driver-memory", "2g", *confs]
    mine = environment() | {"SPARK_CONF_DIR": str(ROOT / "conf"), "SPARK_LOCAL_IP": "127.0.0.1"}
    mine["PYSPARK_PYTHON"] = sys.executable
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, "spark-internal"], cwd=folder, env=mine, stdout=log, stderr=log)
    try:
        wait_for_port(port, process)
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def run_on(folder: Path, *address: str) -> dict[str, Any]:
    """Run ``connect_runs`` on a server, or on an embedded warehouse; return what it prints."""
    command = [sys.executable, "-m", "tests.e2e.connect_runs", str(folder), *address]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_runs_and_ptec_score_are_the_same_on_connect(server: str, tmp_path: Path) -> None:
    remote, own = run_on(tmp_path / "remote", server), run_on(tmp_path / "own")
    assert remote.pop("kind").startswith("pyspark.sql.connect")
    assert own.pop("kind") == "pyspark.sql.session"
    scores = [found.pop("scores") for found in (remote, own)]
    assert remote.pop("answer") == pytest.approx(own.pop("answer"), abs=1e-4)
    assert remote == own
    assert [run["outcome"] for run in own["runs"]] == ["done", "nothing_to_do", "done"]
    assert scores[0].keys() == scores[1].keys()
    for key, (status, labels, logits) in scores[0].items():
        assert [status, labels] == scores[1][key][:2]
        assert_logits_close(logits, scores[1][key][2])


def test_commands_run_on_connect(server: str, tmp_path: Path) -> None:
    where = {"folder": None, "remote": server, "artifacts": str(tmp_path / "artifacts"), "database": "commands"}
    source = {"table": "commands.companies", "key": "key"}
    settings = {"warehouse": where, "source": source, "engine": {"dtype": "float32"}}
    (tmp_path / "ptec.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    def run(*arguments: str) -> dict[str, Any]:
        return result_of(ptec(*arguments, "--config", "ptec.yaml", "--json", cwd=tmp_path))

    columns = "concat('c', id) AS key, concat('name ', id) AS name, concat('about ', id) AS about"
    run("sql", f"CREATE TABLE commands.companies USING delta AS SELECT {columns} FROM range(20)")
    artifacts = [tiny_artifact(tmp_path / f"{seed}", "bert", "deep", seed=seed) for seed in (0, 1)]
    first, second = (run("register", str(artifact))["model_id"] for artifact in artifacts)
    for model_id in (first, second):
        run("promote", model_id, "--force", "--why", "the other model is not compared")
        scored = run("score")
        assert (scored["outcome"], scored["model_id"], scored["counts"]) == ("done", model_id, {"ok": 20})
    query = "SELECT count(*) AS n, any_value(size(ptec_score(key))) AS labels FROM current_scores"
    assert run("sql", query)["rows"] == [{"n": 20, "labels": len(LABELS)}]
    assert run("score")["outcome"] == "nothing_to_do"
    run("rollback")
    back = run("score")
    assert (back["outcome"], back["model_id"], back["counts"]) == ("done", first, {})


def test_absent_server_is_named_without_its_token(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.e2e.connect_runs", str(tmp_path), "sc://127.0.0.1:1/;token=sesame"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S)
    assert "PtecError: the Spark Connect server 127.0.0.1:1 does not answer" in done.stderr
    assert "sesame" not in done.stderr
