"""Promise 2: runs that were really killed and run again leave the tables of an undisturbed run."""

from __future__ import annotations

import pytest

from tests.faults.kills import driver_jvm, everything, kill_when
from tests.faults.site import FaultSite
from tests.spark.support import SMALL_COMMITS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> FaultSite:
    return FaultSite.prepare(tmp_path_factory.mktemp("kill") / "site", n_companies=150, n_before=40)


class TestKilledTwice:
    def test_ends_as_an_undisturbed_run(self, site: FaultSite) -> None:
        expected = site.run(*SMALL_COMMITS)
        tables, n_staged = site.tables(), site.n_staged()
        assert expected["counts"]["ok"] > 100

        site.restore()
        kill_when(site, lambda: site.commits("score_staging") > 0, everything, *SMALL_COMMITS)
        assert site.commits("scores") == 0
        assert 0 < site.n_staged() < n_staged
        kill_when(site, lambda: site.has_new_file("scores"), driver_jvm, *SMALL_COMMITS)
        rerun = site.run(*SMALL_COMMITS)
        assert rerun["outcome"] == "done"
        found = site.tables()
        assert {name: found[name] for name in tables} == tables
        assert site.n_staged() == n_staged  # nothing was scored twice
        assert site.run()["outcome"] == "nothing_to_do"
