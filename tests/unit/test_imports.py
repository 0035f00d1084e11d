"""What a command loads before it can begin."""

from __future__ import annotations

import json
import subprocess
import sys

SLOW = {"torch", "transformers", "sklearn", "pandas"}


def loaded_by(module: str) -> set[str]:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_sql_begins_without_a_language_model() -> None:
    loaded = loaded_by("jobs.sql")
    assert "jobs.sql" in loaded
    assert loaded & SLOW == set()


def test_a_nights_driver_begins_without_what_its_workers_score_with() -> None:
    of_workers = {"transformers", "torch._dynamo", "ptec_udf.engine.scorer"}
    assert loaded_by("jobs.score") & of_workers == set()
    assert loaded_by("ptec_udf.engine.daemon") >= of_workers
