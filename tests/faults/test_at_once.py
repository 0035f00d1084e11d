"""Nights at once leave the tables of nights one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.at_once import N_DRIVERS, RETRIED, WAITED, Site, anomalies
from tests.faults.driver_process import REFUSED

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site.open(tmp_path_factory.mktemp("at_once"))
    yield made
    made.close()


def test_rounds_of_four_nights_leave_nothing_wrong(site: Site) -> None:
    for _ in range(3):
        ended = site.round()
        assert anomalies(site.state(), ended) == []
    ended_well = {outcome: n for outcome, n in site.outcomes.items() if outcome != REFUSED}
    assert sum(ended_well.values()) == 3 * N_DRIVERS
    assert site.outcomes[REFUSED] + site.count(RETRIED) + site.count(WAITED) > 0  # they did meet
