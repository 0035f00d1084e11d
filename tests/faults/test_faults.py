"""Some rounds of the two harnesses; their commands run more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.at_once import Rounds
from tests.faults.run import POINTS, run_round, undisturbed
from tests.faults.site import FaultSite

pytestmark = pytest.mark.long


class TestKills:
    def test_every_point_and_random_moments(self, tmp_path: Path) -> None:
        site = FaultSite.prepare(tmp_path / "site", n_companies=200, n_before=60)
        expected = undisturbed(site)
        rounds = [run_round(site, expected, at, random.Random(at)) for at in range(2 * len(POINTS))]
        assert [one for one in rounds if one.killed and not one.passed] == []
        assert sum(one.passed for one in rounds) > len(POINTS)


class TestAtOnce:
    def test_three_rounds_of_four_runs(self, tmp_path: Path) -> None:
        rounds = Rounds.prepare(tmp_path / "site")
        found = [rounds.run() for _ in range(3)]
        assert found == [([0, 0, 0, 0], [])] * 3
