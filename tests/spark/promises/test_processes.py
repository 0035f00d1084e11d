"""Promises 2 and 7, in real processes: killed runs, one of them on two executors, and two runs at the same time."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.faults.kills import driver_jvm, everything, kill_when, start
from tests.faults.run import ON_EXECUTORS
from tests.faults.site import FaultSite
from tests.prepare import changed
from tests.processes import TIMEOUT_S
from tests.spark.support import SMALL_COMMITS, Site, companies
from tests.tiny import TEMPLATE


@pytest.fixture
def site(scored: Site, tmp_path: Path) -> FaultSite:
    """A site after its first run, with more to do."""
    scored.write(changed(companies(70), 20))
    shutil.copytree(scored.location("scores").parent, tmp_path / "warehouse" / "ptec")
    return FaultSite.of_warehouse(tmp_path)


def unscored_texts(site: FaultSite) -> int:
    """Count distinct texts of the source that have no score."""
    sources = site.sources()
    texts = {TEMPLATE.format(name=name, about=about) for name, about in sources[max(sources)].values()}
    hashes = {hashlib.sha256(text.encode()).hexdigest() for text in texts}
    return len(hashes - {row["text_hash"] for row in site.rows("scores")})


class TestKilledTwice:
    def test_two_reruns_at_once_complete_it(self, site: FaultSite) -> None:
        n_texts = unscored_texts(site)
        assert kill_when(site, lambda: site.commits("score_staging") > 0, everything, *SMALL_COMMITS)
        assert site.commits("scores") == 0
        assert 0 < site.n_staged() < n_texts
        assert kill_when(site, lambda: site.has_new_file("scores"), driver_jvm, *SMALL_COMMITS, ON_EXECUTORS)
        assert site.n_staged() == n_texts  # nothing was scored twice
        codes = [run.wait(TIMEOUT_S) for run in [start(site), start(site)]]
        assert codes == [0, 0]
        assert site.anomalies() == []
        assert unscored_texts(site) == 0
        assert site.rows("score_staging") == []
