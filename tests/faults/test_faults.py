"""A night that is killed, wherever it is, leaves after its rerun the tables of an undisturbed one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.driver import Driver
from tests.faults.points import IN_ONE_PROCESS, ON_EXECUTORS, POINTS, Point
from tests.faults.rounds import Undisturbed, first_hit
from tests.faults.run import MOST_TRIES
from tests.faults.site import N_BEFORE, N_COMPANIES, FaultSite


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> FaultSite:
    return FaultSite.prepare(tmp_path_factory.mktemp("faults") / "site")


@pytest.fixture(scope="module")
def driver(site: FaultSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """What scores again."""
    started = Driver.start(site, tmp_path_factory.mktemp("faults") / "driver")
    yield started
    started.close()


@pytest.fixture(scope="module")
def undisturbed(site: FaultSite) -> dict[str, Undisturbed]:
    """Undisturbed nights by their masters."""
    return {master: Undisturbed.of(site, master) for master in (IN_ONE_PROCESS, ON_EXECUTORS)}


def test_the_night_has_all_to_do_that_a_night_may_have(undisturbed: dict[str, Undisturbed]) -> None:
    for night in undisturbed.values():
        (_, run) = sorted(night.tables["runs"], key=lambda run: run["source_version"])
        # Of a hundred companies ten are gone; 31 of the others have another text, and two are corrected.
        assert dict(run["counts"]) == {"removed": 10, "ok": N_COMPANIES - N_BEFORE + 1 + 31 + 2}
        reasons = {row["reason"] for row in night.tables["score_changes"] if row["run_id"] == run["run_id"]}
        assert reasons == {"new", "text", "removed", "correction"}


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_rerun_gives_the_tables_of_an_undisturbed_night(
    site: FaultSite, driver: Driver, undisturbed: dict[str, Undisturbed], point: Point
) -> None:
    found = first_hit(site, driver, [point] * MOST_TRIES, undisturbed[point.master])
    assert found.step in point.steps
    assert found.survived is not point.ends
    assert (found.ended_well, found.equal, found.rescored, found.passed) == (True, True, False, True)
