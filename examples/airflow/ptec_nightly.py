"""A DAG for Airflow 3: score every night, look at drift, and train a challenger when it says so.

``PTEC_HOME`` is a folder with ``conf/`` as this project ships it, edited, and with ``.venv``, where the package is
installed with its extras ``train`` and ``report``. A person promotes what the gate has passed: ``ptec promote``. The
variable ``ptec_trained_for`` names the night whose signal was trained for: while that signal stands, nothing is trained
again, and a training that failed goes on in the next night, from the extract that it began with. Each signal has
folders of its own, ``extracts/RUN_ID`` and ``artifacts/RUN_ID`` by the night with which it began; nothing removes them.
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
NIGHT = "{{ ti.xcom_pull(task_ids='signal') }}"


def step(name: str, arguments: str, makes: str = "", **how: object) -> BashOperator:
    """Run a command of ptec; its JSON result is the last line, and so the task's return value, whatever is logged.

    Where it makes a file, which comes whole or not at all, and that is there, nothing is run.
    """
    command = f'result=$({shlex.quote(str(PTEC))} {arguments} --json); code=$?; echo "$result"; exit $code'
    there = f"test ! -e {makes} || exit 0; " if makes else ""
    return BashOperator(task_id=name, bash_command=there + command, cwd=str(HOME), **how)


def ask(*arguments: str) -> dict[str, Any]:
    """Run a command of ptec that says something by its exit code too; a failure prints no result."""
    done = subprocess.run([str(PTEC), *arguments, "--json"], cwd=HOME, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def began(nights: list[dict[str, Any]]) -> str | None:
    """Return the run of the first night of a signal that stands; nights come newest first."""
    signalling = itertools.takewhile(lambda night: night["retrain"], nights)
    return next((night["run_id"] for night in reversed(list(signalling))), None)


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
    report = step("report", "report --config conf/score.yaml --out reports/{{ dag_run.run_after | ds }}.html")

    @task
    def signal() -> str | None:
        """Return the night with which the signal began, if it stands."""
        return began(ask("drift", "--nights", "365", "--config", "conf/score.yaml")["nights"])

    @task.short_circuit
    def is_new(night: str | None) -> bool:
        """Say whether there is a signal that was not trained for yet."""
        return night is not None and night != Variable.get(TRAINED_FOR, default=None)

    @task
    def remember(night: str) -> None:
        """Write down that this signal was trained for."""
        Variable.set(TRAINED_FOR, night)

    # A training goes on only from the same extract, so that there is one for each signal and not one for each night.
    extract = step(
        "extract",
        f"extract --config conf/extract.yaml --set out=extracts/{NIGHT}",
        makes=f"extracts/{NIGHT}/extract.json",
    )
    # Nights wait for it: it is tried again, and goes on where it stopped, in the next one.
    train = step(
        "train",
        f"train --config conf/train.yaml --set extract=extracts/{NIGHT} --set out=artifacts/{NIGHT}",
        makes=f"artifacts/{NIGHT}/manifest.json",
        execution_timeout=timedelta(hours=12),
        retries=0,
    )
    register = step("register", f"register artifacts/{NIGHT} --config conf/score.yaml")
    evaluate = step(
        "evaluate",
        "evaluate {{ (ti.xcom_pull(task_ids='register') | fromjson)['model_id'] }} --config conf/evaluate.yaml "
        f"--set extract=extracts/{NIGHT}",
    )

    score >> report
    night = signal()
    score >> night
    is_new(night) >> extract >> train >> register >> evaluate
    register >> remember(night)  # whatever comes of evaluate: a wrong conf/evaluate.yaml is no reason to train again

    dag.user_defined_filters = {"fromjson": json.loads}
