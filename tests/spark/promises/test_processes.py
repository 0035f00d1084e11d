"""Promises 2 and 7, by the command in real processes: killed runs, and two runs at the same time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.faults.kills import driver_jvm, everything, kill_when, start
from tests.faults.site import FaultSite
from tests.processes import TIMEOUT_S
from tests.spark.support import SMALL_COMMITS
from tests.tiny import TEMPLATE


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> FaultSite:
    """A site with a first run, and more to do."""
    return FaultSite.prepare(tmp_path_factory.mktemp("processes") / "site", n_companies=70, n_before=20)


@pytest.fixture
def site(prepared: FaultSite) -> Iterator[FaultSite]:
    yield prepared
    prepared.restore()


def unscored_texts(site: FaultSite) -> int:
    """Count distinct texts of the source that have no score."""
    sources = site.sources()
    texts = {TEMPLATE.format(name=name, about=about) for name, about in sources[max(sources)].values()}
    hashes = {hashlib.sha256(text.encode()).hexdigest() for text in texts}
    return len(hashes - {row["text_hash"] for row in site.rows("scores")})


class TestKilledTwice:
    def test_rerun_completes_it(self, site: FaultSite) -> None:
        n_texts = unscored_texts(site)
        assert kill_when(site, lambda: site.commits("score_staging") > 0, everything, *SMALL_COMMITS)
        assert site.commits("scores") == 0
        assert 0 < site.n_staged() < n_texts
        assert kill_when(site, lambda: site.has_new_file("scores"), driver_jvm, *SMALL_COMMITS)
        assert site.run(*SMALL_COMMITS)["outcome"] in ("done", "nothing_to_do")
        assert site.anomalies() == []
        assert unscored_texts(site) == 0
        assert site.n_staged() == n_texts  # nothing was scored twice


class TestTwoRunsAtOnce:
    def test_leave_consistent_tables(self, site: FaultSite) -> None:
        codes = [run.wait(TIMEOUT_S) for run in [start(site), start(site)]]
        assert codes == [0, 0]
        assert site.anomalies() == []
        assert site.rows("score_staging") == []
