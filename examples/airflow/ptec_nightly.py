"""A DAG for Airflow 3: score every night, look at drift, and train a challenger when it says so.

``PTEC_HOME`` is a folder with ``conf/`` as this project ships it, edited, and with ``.venv``, where the package is
installed with its extras ``train`` and ``report``. A person promotes what the gate has passed: ``ptec promote``. While
the signal stands, and the nights before have trained for it already, nothing is trained again.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

HOME = Path(os.environ.get("PTEC_HOME", "/srv/ptec"))
PTEC = HOME / ".venv" / "bin" / "ptec"


def step(name: str, arguments: str, **how: object) -> BashOperator:
    """Run a command of ptec; its JSON result is the task's return value."""
    return BashOperator(task_id=name, bash_command=f"{PTEC} {arguments} --json", cwd=str(HOME), **how)


def ask(*arguments: str) -> dict[str, Any]:
    """Run a command of ptec that says something by its exit code too; a failure prints no result."""
    done = subprocess.run([str(PTEC), *arguments, "--json"], cwd=HOME, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


with DAG(
    dag_id="ptec_nightly",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # An embedded warehouse takes one process at a time.
    max_active_runs=1,
    max_active_tasks=1,
    # A rerun goes on where a night stopped; a wrong configuration, exit code 2, fails again at no cost.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=15)},
    tags=["ptec"],
) as dag:
    score = step("score", "score --config conf/score.yaml", execution_timeout=timedelta(hours=6))
    report = step("report", "report --config conf/score.yaml --out reports/{{ ds }}.html")

    @task.short_circuit
    def says_train_again() -> bool:
        """Read the signal from what ptec drift prints, and whether it is a new one."""
        nights = ask("drift", "--nights", "2", "--config", "conf/score.yaml")["nights"]
        return [night["retrain"] for night in nights[:2]] in ([True], [True, False])

    extract = step("extract", "extract --config conf/extract.yaml --set overwrite=true")
    train = step("train", "train --config conf/train.yaml --set overwrite=true", execution_timeout=timedelta(hours=12))
    register = step("register", "register artifacts/startups --config conf/score.yaml")
    evaluate = step(
        "evaluate",
        "evaluate {{ (ti.xcom_pull(task_ids='register') | fromjson)['model_id'] }} --config conf/evaluate.yaml",
    )

    score >> report
    score >> says_train_again() >> extract >> train >> register >> evaluate

    dag.user_defined_filters = {"fromjson": json.loads}
