"""The night on real executor JVMs, apart from the driver's process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.processes import ROOT, TIMEOUT_S


def test_two_executors_both_score(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.e2e.cluster_night", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["night"]["counts"] == {"ok": 130}
    assert len(found["executors"]) == 2
