"""What a command loads before it can begin."""

from __future__ import annotations

import json
import subprocess
import sys

SLOW = {"torch", "transformers", "sklearn", "pandas"}


def test_sql_begins_without_a_language_model() -> None:
    code = "import json, sys, jobs.sql; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "jobs.sql" in loaded
    assert loaded & SLOW == set()
