"""A night that is killed, wherever it is, leaves after its rerun the tables of an undisturbed one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.driver import Driver
from tests.faults.points import POINTS, Point
from tests.faults.rounds import run_round
from tests.faults.site import N_COMPANIES, FaultSite


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
def undisturbed(site: FaultSite) -> dict[str, dict[str, Any]]:
    """Tables of an undisturbed night, by its master."""
    found = {}
    for master in {point.master for point in POINTS}:
        site.restore()
        assert site.night(master)["counts"] == {"ok": N_COMPANIES + 10}
        found[master] = site.tables()
    return found


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_rerun_gives_the_tables_of_an_undisturbed_night(
    site: FaultSite, driver: Driver, undisturbed: dict[str, dict[str, Any]], point: Point
) -> None:
    found = run_round(site, driver, point, undisturbed[point.master])
    assert found.killed > 0
    assert found.survived is not point.ends
    assert (found.equal, found.rescored) == (True, False)
