"""A DAG for Airflow 3: score nightly, read the drift, and train a challenger when it is time.

``PTEC_HOME`` is a folder with ``ptec.yaml`` and ``.venv``, where the package is installed with its extras ``train`` and
``report``. A person promotes the challenger: ``ptec promote``. The variable ``ptec_trained_for`` names the run whose
signal was trained for: as long as the signal lasts, nothing is trained again, and a failed training continues in the
next run from the same extract. Each signal has the folders ``extracts/RUN_ID`` and ``artifacts/RUN_ID`` of the run with
which it began; nothing removes them.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Variable, task

HOME = Path(os.environ.get("PTEC_HOME", "/srv/ptec"))
PTEC = HOME / ".venv" / "bin" / "ptec"
TRAINED_FOR = "ptec_trained_for"
SIGNAL = "{{ ti.xcom_pull(task_ids='signal') }}"


def step(name: str, arguments: str, makes: str = "", **options: object) -> BashOperator:
    """Run a command of ptec; its JSON result is the last line and so the task's return value.

    When the file that it makes exists, nothing is run: the file is written whole or not at all.
    """
    command = f'result=$({shlex.quote(str(PTEC))} {arguments} --json); code=$?; echo "$result"; exit $code'
    skip = f"test ! -e {makes} || exit 0; " if makes else ""
    return BashOperator(task_id=name, bash_command=skip + command, cwd=str(HOME), **options)


def query(*arguments: str) -> dict[str, Any]:
    """Run a command of ptec whose exit code is a result too; a failure prints no result."""
    done = subprocess.run([str(PTEC), *arguments, "--json"], cwd=HOME, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def first_run(runs: list[dict[str, Any]]) -> str | None:
    """Return the run with which the current signal began; runs come newest first."""
    signalling = itertools.takewhile(lambda run: run["retrain"], runs)
    return next((run["run_id"] for run in reversed(list(signalling))), None)


with DAG(
    dag_id="ptec_nightly",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # One process writes to an embedded warehouse at a time.
    max_active_runs=1,
    max_active_tasks=1,
    # A rerun continues a stopped run; a user error, exit code 2, fails again at no cost.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=15)},
    tags=["ptec"],
) as dag:
    score = step("score", "score", execution_timeout=timedelta(hours=6))
    report = step("report", "report --out reports/{{ dag_run.run_after | ds }}.html")

    @task
    def signal() -> str | None:
        """Return the run with which the current signal began."""
        return first_run(query("drift", "--runs", "365")["runs"])

    @task.short_circuit
    def is_new(run_id: str | None) -> bool:
        """Return whether there is a signal that was not trained for yet."""
        return run_id is not None and run_id != Variable.get(TRAINED_FOR, default=None)

    @task
    def remember(run_id: str) -> None:
        """Record that this signal was trained for."""
        Variable.set(TRAINED_FOR, run_id)

    # A training continues from the same extract only, so each signal has one.
    extract = step(
        "extract",
        f"extract --out extracts/{SIGNAL}",
        makes=f"extracts/{SIGNAL}/extract.json",
    )
    # Without retries: the next nightly run continues it.
    train = step(
        "train",
        f"train --extract extracts/{SIGNAL} --out artifacts/{SIGNAL}",
        makes=f"artifacts/{SIGNAL}/manifest.json",
        execution_timeout=timedelta(hours=12),
        retries=0,
    )
    register = step("register", f"register artifacts/{SIGNAL}")
    evaluate = step(
        "evaluate",
        "evaluate {{ (ti.xcom_pull(task_ids='register') | fromjson)['model_id'] }} "
        f"--set evaluate.extract=extracts/{SIGNAL}",
    )

    score >> report
    current = signal()
    score >> current
    is_new(current) >> extract >> train >> register >> evaluate
    register >> remember(current)  # before evaluate: a wrong section evaluate is no reason to train again

    dag.user_defined_filters = {"fromjson": json.loads}
