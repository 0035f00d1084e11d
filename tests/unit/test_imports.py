"""Modules that a command loads before it starts its work."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MODELS = {"torch", "transformers", "sklearn", "peft"}


def loaded_by(*modules: str) -> set[str]:
    code = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (["ptec_jobs.cli"], {*MODELS, "pyspark", "pandas", "numpy", "pydantic", "yaml"}),  # ptec --help in 0.4 s
        (["ptec_jobs.site"], {*MODELS, "pyspark", "pandas"}),
        (["ptec_jobs.sql.on_spark"], {*MODELS, "pandas"}),
        (["ptec_jobs.sql.on_duckdb", "ptec_jobs.sql.shell"], {*MODELS, "pandas", "pyspark"}),
        (["ptec_jobs.notice", "ptec_udf.nightly.run"], {*MODELS}),
    ],
    ids=["help", "site", "sql on spark", "sql on duckdb", "score"],
)
def test_a_command_loads_little(modules: list[str], absent: set[str]) -> None:
    loaded = loaded_by(*modules)
    assert set(modules) <= loaded
    assert loaded & absent == set()
