"""Exit codes of ``make audit``; a program takes the place of pip-audit, which needs a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit.py"
CLEAN = {"name": "torch", "version": "2.15.0", "vulns": []}
SKIPPED = {"name": "pyspark", "skip_reason": "no network"}
BAD = {"name": "yaml", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2", "3"]}]}
OPEN = {"name": "old", "version": "1", "vulns": [{"id": "CVE-2", "fix_versions": []}]}


def audit(folder: Path, program: str) -> tuple[int, str]:
    """Return the exit code and the output of an audit with a program in place of pip-audit."""
    (folder / "pip_audit.py").write_text(program, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, AUDIT], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("packages", "exit_code", "lines"),
    [
        ([CLEAN, SKIPPED], 0, ["1 of 2 packages compared, 0 known"]),
        ([CLEAN, BAD, OPEN], 1, ["yaml 1: CVE-1, fixed in 2, 3", "old 1: CVE-2, fixed in no version yet"]),
        ([SKIPPED], 0, ["none of 1 packages could be compared: no network"]),
    ],
)
def test_known_vulnerability_fails(tmp_path: Path, packages: list[object], exit_code: int, lines: list[str]) -> None:
    printed = json.dumps({"dependencies": packages})
    code, output = audit(tmp_path, f"print({printed!r})")
    assert code == exit_code
    assert [line for line in lines if line not in output] == []
