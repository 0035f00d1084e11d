"""Nights at once leave the tables of nights one after the other; and what looks for anomalies finds planted ones."""

from __future__ import annotations

from collections.abc import Iterator

import deltalake
import pytest

from tests.faults.at_once import N_DRIVERS, Site, anomalies

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site.open(tmp_path_factory.mktemp("at_once"))
    yield made
    made.close()


def test_rounds_of_four_nights_leave_nothing_wrong(site: Site) -> None:
    for _ in range(3):
        ended = site.round()
        assert anomalies(site, ended) == []
    assert sum(site.outcomes.values()) == 3 * N_DRIVERS
    assert site.outcomes["done"] >= 3


def test_planted_anomalies_are_found(site: Site) -> None:
    if not site.rounds:
        site.round()
    good = [{"outcome": "done"}]
    assert anomalies(site, good) == []
    assert anomalies(site, [{"outcome": "failed", "error": "x"}]) == ["x", "no night was done"]
    scores = deltalake.DeltaTable(site.tables.table("scores"))
    rows = scores.to_pyarrow_table(filters=[("model_id", "=", site.models[0])])
    standing = rows.filter([value is None for value in rows["removed_in"].to_pylist()])
    deltalake.write_deltalake(site.tables.table("scores"), standing.slice(0, 1), mode="append")
    assert any("stands 2 times" in one for one in anomalies(site, good))
    key = standing["key"][0].as_py().replace("'", "''")
    deltalake.DeltaTable(site.tables.table("scores")).delete(f"key = '{key}'")
    assert any("lost or left over" in one for one in anomalies(site, good))
