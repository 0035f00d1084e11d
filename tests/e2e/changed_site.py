"""A site after two runs of the command line: the second found other texts, new, removed and corrected companies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT, TIMEOUT_S, ptec, result_of


def make_site(folder: Path) -> Path:
    """Prepare a warehouse of 80 companies whose first 60 were scored before, and score it."""
    command = [sys.executable, "-m", "tests.prepare", str(folder), "80", "1", "60"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_S, capture_output=True)
    assert result_of(ptec("score", "--config", "ptec.yaml", "--json", cwd=folder))["outcome"] == "done"
    return folder
