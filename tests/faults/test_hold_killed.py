"""A night on a site's metastore that is killed leaves its hold, and its rerun waits for the end of that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import table_rows
from tests.faults.driver import Driver
from tests.faults.points import IN_ONE_PROCESS, POINTS
from tests.faults.rounds import Undisturbed, kill_at
from tests.faults.site import FaultSite

LEASE_S = "120"
FIRST_SLICE = next(point for point in POINTS if point.name == "all, first slice staged")


@pytest.fixture
def site(tmp_path: Path) -> FaultSite:
    return FaultSite.prepare(tmp_path / "site")


@pytest.fixture
def first(site: FaultSite, tmp_path: Path) -> Driver:
    """The one that is killed."""
    return Driver.start(site, tmp_path / "first", LEASE_S)


@pytest.fixture
def second(site: FaultSite, tmp_path: Path) -> Iterator[Driver]:
    started = Driver.start(site, tmp_path / "second", LEASE_S)
    yield started
    started.close()


@pytest.mark.long
def test_rerun_takes_the_hold_of_a_killed_night_over_and_ends_as_an_undisturbed_one(
    site: FaultSite, first: Driver, second: Driver
) -> None:
    undisturbed = Undisturbed.of(site, IN_ONE_PROCESS)
    site.restore()
    first.wait()
    second.wait()
    first.order([])
    assert kill_at(first.process, site, FIRST_SLICE) > 0
    first.process.wait(60)
    left = {row["model_id"]: row["run_id"] for row in table_rows(site.table("holds"), ())}
    assert len(left) == 2
    run_id = left["alias champion"]
    result = second.night()
    assert f"run {run_id} holds alias champion; waiting" in second.said()
    assert (result["outcome"], result["run_id"]) == ("done", run_id)
    assert site.tables() == undisturbed.tables
