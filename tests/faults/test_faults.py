"""Some rounds of the two harnesses; their commands run more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.at_once import Rounds
from tests.faults.run import POINTS
from tests.processes import ROOT

pytestmark = pytest.mark.long


class TestKills:
    def test_every_point_and_random_moments(self, tmp_path: Path) -> None:
        out = tmp_path / "rounds.jsonl"
        command = [sys.executable, "-m", "tests.faults.run", "--kills", str(2 * len(POINTS)), "--out", str(out)]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        rounds = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        assert sum(one["passed"] for one in rounds) > len(POINTS)


class TestAtOnce:
    def test_three_rounds_of_four_runs(self, tmp_path: Path) -> None:
        rounds = Rounds.prepare(tmp_path / "site")
        found = [rounds.run() for _ in range(3)]
        assert found == [([0, 0, 0, 0], [])] * 3
