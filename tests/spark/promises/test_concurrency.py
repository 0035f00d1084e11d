"""Promise 7: two runs at the same time, in processes of their own, leave consistent tables."""

from __future__ import annotations

from pathlib import Path

from tests.faults.kills import start
from tests.faults.site import FaultSite
from tests.processes import TIMEOUT_S


class TestTwoRunsAtOnce:
    def test_leave_consistent_tables(self, tmp_path: Path) -> None:
        site = FaultSite.prepare(tmp_path / "site", n_companies=80, n_before=30)
        codes = [run.wait(TIMEOUT_S) for run in [start(site), start(site)]]
        assert 0 in codes
        assert site.anomalies() == []
        assert site.run()["outcome"] == "nothing_to_do"
        assert site.rows("score_staging") == []
