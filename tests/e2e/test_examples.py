"""Examples load in the programs that they are for, each in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from ptec_udf.warehouse.duck import connect
from tests.e2e.changed_site import make_site
from tests.processes import ROOT, environment

EXAMPLES = ROOT / "examples"

READ_DAG = """
import json, sys
from datetime import datetime, timezone
from types import SimpleNamespace
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1])
dag = bag.dags["ptec_nightly"]
sys.path.insert(0, sys.argv[1])
from ptec_nightly import first_run
signals = ([], [0], [0, 1], [1], [1, 0], [1, 1, 0, 1])
runs = [[{"run_id": f"run-{at}", "retrain": bool(signal)} for at, signal in enumerate(each)] for each in signals]
after = {one.task_id: sorted(one.downstream_task_ids) for one in dag.tasks}
report = dag.get_task("report")
triggered = {"dag_run": SimpleNamespace(run_after=datetime(2026, 1, 2, tzinfo=timezone.utc))}  # no logical date, no ds
shown = report.render_template(report.bash_command, triggered)
results = {"signal": "run-7", "register": '{"model_id": "m1"}'}
context = {"ti": SimpleNamespace(xcom_pull=lambda task_ids: results[task_ids])}
retraining = [dag.get_task(name) for name in ("extract", "train", "register", "evaluate")]
retraining = [one.render_template(one.bash_command, context) for one in retraining]
tries = {one.task_id: one.retries for one in dag.tasks}
found = {"errors": bag.import_errors, "after": after, "began": [first_run(each) for each in runs]}
found |= {"report": shown, "tries": tries, "retraining": retraining}
print(json.dumps(found))
"""

READ_BUNDLE = """
import json, sys, yaml
from databricks.bundles.jobs import Job
jobs = yaml.safe_load(open(sys.argv[1]))["resources"]["jobs"]
print(json.dumps({name: Job.from_dict(job).as_dict() == job for name, job in jobs.items()}))
"""

RUN_NOTEBOOK = """
import json, os, runpy, sys
from pathlib import Path
from ptec_jobs.site import find_site
from ptec_udf.warehouse.session import build_session
spark = build_session(find_site(Path(os.environ["PTEC_SITE"])).warehouse)
found = runpy.run_path(sys.argv[1], {"spark": spark})
companies = {row["label"]: row["companies"] for row in found["by_label"].collect()}
scores = found["scored"].first()["scores"]
print(json.dumps({"outcome": found["result"]["outcome"], "companies": companies, "scores": scores}))
"""


@pytest.fixture(scope="module")
def schedulers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packages = (
        "apache-airflow-core>=3.3,<4",
        "apache-airflow-providers-standard>=1.21,<2",
        "databricks-bundles>=1.22,<2",
    )
    return installed(tmp_path_factory.mktemp("schedulers"), *packages, "pyyaml")


def installed(folder: Path, *packages: str) -> Path:
    """Make an environment with some packages; return its folder of programs."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", *packages], check=True, timeout=900)
    return folder / "bin"


def read(python: Path, code: str, file: Path, **environment: str) -> dict:
    done = subprocess.run(
        [python, "-c", code, file], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_airflow_dag(schedulers: Path, tmp_path: Path) -> None:
    ptec = tmp_path / "our site" / ".venv" / "bin" / "ptec"
    ptec.parent.mkdir(parents=True)
    ptec.write_text("#!/bin/sh\necho '{\"retrain\": true}'\necho a late line of Java >&2\nexit 3\n", encoding="utf-8")
    ptec.chmod(0o755)
    home = {
        "PTEC_HOME": str(tmp_path / "our site"),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
    }
    found = read(schedulers / "python", READ_DAG, EXAMPLES / "airflow", **home)
    assert found["errors"] == {}
    assert found["after"]["score"] == ["report", "signal"]
    assert found["after"]["is_new"] == ["extract"]
    assert found["after"]["register"] == ["evaluate", "remember"]
    assert "--out reports/2026-01-02.html " in found["report"]
    ended = subprocess.run(
        ["bash", "-c", found["report"]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, 'a late line of Java\n{"retrain": true}\n')
    _check_folders_of_a_signal(found["retraining"], tmp_path)
    assert (found["tries"]["train"], found["tries"]["score"]) == (0, 2)
    assert found["began"] == [None, None, None, "run-0", "run-0", "run-1"]


def _check_folders_of_a_signal(steps: list[str], folder: Path) -> None:
    """Run the steps with a failing ptec: a step is skipped when its file exists."""
    for command, names in zip(
        steps, ("--out extracts", "--out artifacts", "register artifacts", "extract=extracts"), strict=True
    ):
        assert f"{names}/run-7" in command
        assert _exit_code(command, folder) == 3
    for command, file in zip(steps[:2], ("extracts/run-7/extract.json", "artifacts/run-7/manifest.json"), strict=True):
        (folder / file).parent.mkdir(parents=True)
        (folder / file).touch()
        assert _exit_code(command, folder) == 0
    assert "evaluate m1 " in steps[-1]


def _exit_code(command: str, folder: Path) -> int:
    return subprocess.run(["bash", "-c", command], cwd=folder, stdout=subprocess.DEVNULL, check=False).returncode


@pytest.mark.long
def test_databricks_bundle(schedulers: Path) -> None:
    assert read(schedulers / "python", READ_BUNDLE, EXAMPLES / "databricks" / "databricks.yml") == {
        "ptec_nightly": True
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("examples") / "site")


@pytest.mark.long
def test_databricks_notebook(site: Path) -> None:
    """Run its cells with a session of this machine as ``spark``, which a notebook has."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_NOTEBOOK, EXAMPLES / "databricks" / "screens.py"],
        env=environment() | {"PTEC_SITE": str(site / "ptec.yaml")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["outcome"] == "nothing_to_do"
    assert sum(found["companies"].values()) > 0
    assert found["scores"].keys() == found["companies"].keys()


@pytest.mark.long
def test_dbt_project(site: Path, tmp_path: Path) -> None:
    adapters = ("dbt-duckdb>=1.10,<2", "dbt-spark[PyHive]>=1.11,<1.12")
    programs = installed(tmp_path / "env", "dbt-core>=1.11,<1.12", *adapters, "deltalake", "pyarrow")
    places = {"DBT_PROFILES_DIR": ".", "DBT_TARGET_PATH": str(tmp_path), "DBT_LOG_PATH": str(tmp_path)}
    places |= {"PTEC_WAREHOUSE": str(site / "warehouse"), "PTEC_DUCKDB": str(tmp_path / "readers.duckdb")}
    label = duckdb_rows(site, "SELECT label FROM label_scores WHERE has_label GROUP BY label ORDER BY count(*) DESC")[
        0
    ][0]
    for command in (["build", "--vars", json.dumps({"screen_label": label})], ["parse", "--target", "spark"]):
        done = subprocess.run(
            [programs / "dbt", "--warn-error", "--no-version-check", *command, "--no-partial-parse"],
            cwd=EXAMPLES / "dbt",
            env={**os.environ, **places, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with duckdb.connect(str(tmp_path / "readers.duckdb")) as built:
        screen = built.execute("SELECT key FROM ptec_dbt.insurers ORDER BY key").fetchall()
        assert built.execute("SELECT count(*) FROM ptec_dbt.insurers_history").fetchone() >= (len(screen),)
    assert screen == duckdb_rows(site, "SELECT key FROM screen(?, NULL) ORDER BY key", label)


def duckdb_rows(site: Path, query: str, *values: str) -> list[tuple]:
    return connect(site / "warehouse").execute(query, values).fetchall()
