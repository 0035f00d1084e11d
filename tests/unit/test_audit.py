"""What ``make audit`` makes of the answers of pip-audit, which a program stands in for: the real one asks a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit.py"
CLEAN = {"name": "torch", "version": "2.15.0", "vulns": []}
SKIPPED = {"name": "pyspark", "skip_reason": "the network is not there"}
BAD = {"name": "yaml", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2", "3"]}]}
UNMENDED = {"name": "old", "version": "1", "vulns": [{"id": "CVE-2", "fix_versions": []}]}


@pytest.mark.parametrize(
    ("answer", "exit_code", "said"),
    [
        ([CLEAN, SKIPPED], 0, ["audit: 1 of 2 packages compared, 0 known vulnerabilities"]),
        (
            [CLEAN, BAD, UNMENDED],
            1,
            [
                "audit: 3 of 3 packages compared, 2 known vulnerabilities",
                "  yaml 1: CVE-1, mended in 2, 3",
                "  old 1: CVE-2, mended in no version yet",
            ],
        ),
        ([SKIPPED], 0, ["audit: none of 1 packages could be compared: the network is not there"]),
    ],
)
def test_exit_code_is_1_where_a_vulnerability_is_known(
    tmp_path: Path, answer: list[object], exit_code: int, said: list[str]
) -> None:
    printed = json.dumps({"dependencies": answer})
    assert audited(tmp_path, f"print({printed!r})") == (exit_code, said)


@pytest.mark.parametrize(
    ("program", "exit_code", "said"),
    [
        ("raise SystemExit('connection refused')", 0, "audit: nothing was compared: connection refused"),
        (
            "import sys; print('no such option', file=sys.stderr); sys.exit(2)",
            2,
            "nothing was compared: no such option",
        ),
        ("raise ModuleNotFoundError(\"No module named 'requests'\")", 2, "No module named 'requests'"),
    ],
)
def test_offline_is_no_failure_and_what_cannot_run_is_one(
    tmp_path: Path, program: str, exit_code: int, said: str
) -> None:
    code, (line,) = audited(tmp_path, program)
    assert (code, said in line) == (exit_code, True)


def audited(folder: Path, program: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines of an audit that asks a program."""
    (folder / "pip_audit.py").write_text(program, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, AUDIT], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()
