"""Promises 2 and 7, by the command in real processes: killed runs, and two runs at the same time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.kills import driver_jvm, everything, kill_when, start
from tests.faults.site import FaultSite
from tests.processes import TIMEOUT_S
from tests.spark.support import SMALL_COMMITS


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> FaultSite:
    """A site with a first run, and more to do."""
    return FaultSite.prepare(tmp_path_factory.mktemp("processes") / "site", n_companies=70, n_before=20)


@pytest.fixture
def site(prepared: FaultSite) -> Iterator[FaultSite]:
    yield prepared
    prepared.restore()


class TestKilledTwice:
    def test_ends_as_an_undisturbed_run(self, site: FaultSite) -> None:
        assert site.run(*SMALL_COMMITS)["counts"]["ok"] > 40
        expected, n_staged = site.tables(), site.n_staged()

        site.restore()
        assert kill_when(site, lambda: site.commits("score_staging") > 0, everything, *SMALL_COMMITS)
        assert site.commits("scores") == 0
        assert 0 < site.n_staged() < n_staged
        assert kill_when(site, lambda: site.has_new_file("scores"), driver_jvm, *SMALL_COMMITS)
        assert site.run(*SMALL_COMMITS)["outcome"] in ("done", "nothing_to_do")
        found = site.tables()
        for table, rows in expected.items():
            assert found[table] == rows, table
        assert site.n_staged() == n_staged  # nothing was scored twice
        assert site.anomalies() == []


class TestTwoRunsAtOnce:
    def test_leave_consistent_tables(self, site: FaultSite) -> None:
        codes = [run.wait(TIMEOUT_S) for run in [start(site), start(site)]]
        assert codes == [0, 0]
        assert site.anomalies() == []
        assert site.rows("score_staging") == []
