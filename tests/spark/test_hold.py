"""On a metastore of the site a hold is a row: of two runs at once one has it, and a dead run's ends."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ptec_udf.errors import HeldError
from ptec_udf.nightly import hold as module
from ptec_udf.nightly import publish as write_module
from ptec_udf.nightly import run as score_module
from ptec_udf.nightly.hold import Hold, held, put_hold
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site


def holders(warehouse: Warehouse) -> dict[str, str]:
    return {row["model_id"]: row["run_id"] for row in warehouse.read("holds").collect()}


def give_to_another(warehouse: Warehouse) -> None:
    """Let another run take the first hold, as one does that has outwaited its holder."""
    row = warehouse.read("holds").first().asDict()
    put_hold(warehouse, row | {"holder": "another", "run_id": "run-2"}, row["holder"])


@pytest.fixture
def on_a_site(warehouse: Warehouse):
    """Make the session look like one of a site."""
    folder = warehouse.spark.conf.get(FOLDER_SETTING)
    warehouse.spark.conf.unset(FOLDER_SETTING)
    yield warehouse
    warehouse.spark.conf.set(FOLDER_SETTING, folder)


def test_row_stands_while_the_run_is_at_work(on_a_site: Warehouse) -> None:
    with held(on_a_site, "model", "run-1") as still_held:
        assert holders(on_a_site) == {"model": "run-1"}
        still_held()
        with held(on_a_site, "another", "run-2"):
            assert holders(on_a_site) == {"model": "run-1", "another": "run-2"}
    assert holders(on_a_site) == {}


def test_an_alias_is_held_beside_the_model(on_a_site: Warehouse) -> None:
    with held(on_a_site, "model", "run-1", "champion"):
        assert holders(on_a_site) == {"model": "run-1", "alias champion": "run-1"}
        with (
            pytest.raises(HeldError, match="run run-1 holds alias champion"),
            held(on_a_site, "another", "run-2", "champion"),
        ):
            pass
        assert holders(on_a_site) == {"model": "run-1", "alias champion": "run-1"}
    assert holders(on_a_site) == {}


def test_run_that_gives_a_sign_of_life_keeps_its_hold(warehouse: Warehouse) -> None:
    first, second = Hold(warehouse, "model", "run-1"), Hold(warehouse, "model", "run-2")
    first.take()
    with pytest.raises(HeldError, match="run run-1 holds the scores of model model"):
        second.take(sleep=lambda _: first.renew())
    first.give_back()
    second.take()
    assert holders(warehouse) == {"model": "run-2"}


def test_hold_of_a_dead_run_ends_and_cannot_be_renewed(warehouse: Warehouse, monkeypatch) -> None:
    first, second = Hold(warehouse, "model", "run-1"), Hold(warehouse, "model", "run-2")
    with monkeypatch.context() as patch:
        patch.setattr(module, "LEASE", timedelta(seconds=0))
        first.take()
    waits: list[float] = []
    second.take(sleep=waits.append)
    assert (holders(warehouse), waits) == ({"model": "run-2"}, [])
    with pytest.raises(HeldError, match="another one has taken its place"):
        first.renew()
    second.give_back()
    with pytest.raises(HeldError, match="another one has taken its place"):
        first.renew()
    assert holders(warehouse) == {}


def test_two_takers_of_one_empty_place(warehouse: Warehouse, monkeypatch) -> None:
    first, second = Hold(warehouse, "model", "run-1"), Hold(warehouse, "model", "run-2")

    def another_is_quicker(warehouse: Warehouse, row, expected) -> None:
        monkeypatch.setattr(module, "put_hold", put_hold)
        second.take()
        put_hold(warehouse, row, expected)

    monkeypatch.setattr(module, "put_hold", another_is_quicker)
    with pytest.raises(HeldError, match="run-2"):
        first.take(sleep=lambda _: second.renew())
    (row,) = warehouse.read("holds").collect()
    assert row["run_id"] == "run-2"
    assert timedelta(0) < row["until"].astimezone(UTC) - datetime.now(UTC) <= timedelta(minutes=10)


def test_a_run_at_work_gives_signs_of_life(on_a_site: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_RENEWALS", 0.05)
    with held(on_a_site, "model", "run-1"):
        first = on_a_site.read("holds").first()["until"]
        end = time.monotonic() + 120
        while on_a_site.read("holds").first()["until"] == first:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_night_whose_hold_another_run_has_taken_writes_nothing(
    on_a_site: Warehouse, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.champion()
    stage = score_module.stage

    def taken_over(*args: Any, **kwargs: Any) -> Any:
        staged = stage(*args, **kwargs)
        give_to_another(on_a_site)
        return staged

    monkeypatch.setattr(score_module, "stage", taken_over)
    with pytest.raises(HeldError, match="another one has taken its place"):
        site.night()
    assert (site.rows("scores"), site.rows("score_changes"), site.rows("runs")) == ([], [], [])


def test_a_hold_that_is_lost_after_the_merge_leaves_the_row_to_who_has_it(
    on_a_site: Warehouse, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.champion()
    merge = Warehouse.merge_scores

    def taken_over(self: Warehouse, *args: Any, **kwargs: Any) -> None:
        merge(self, *args, **kwargs)
        give_to_another(on_a_site)

    monkeypatch.setattr(Warehouse, "merge_scores", taken_over)
    with pytest.raises(HeldError, match="another one has taken its place"):
        site.night("drift.measure=true")
    assert [len(site.rows(table)) > 0 for table in ("scores", "drift", "runs")] == [True, False, False]


def test_a_hold_that_is_lost_while_drift_is_measured_leaves_the_row_to_who_has_it(
    on_a_site: Warehouse, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.champion()
    measure = score_module.measure_drift

    def taken_over(*args: Any) -> None:
        measure(*args)
        give_to_another(on_a_site)

    monkeypatch.setattr(score_module, "measure_drift", taken_over)
    with pytest.raises(HeldError, match="another one has taken its place"):
        site.night("drift.measure=true")
    assert [len(site.rows(table)) > 0 for table in ("scores", "drift", "runs")] == [True, True, False]


def test_a_hold_that_is_lost_while_changes_are_written_keeps_scores_as_they_are(
    on_a_site: Warehouse, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.champion()
    written = write_module.screen_changes

    def taken_over(*args: Any, **kwargs: Any) -> Any:
        give_to_another(on_a_site)
        return written(*args, **kwargs)

    monkeypatch.setattr(write_module, "screen_changes", taken_over)
    with pytest.raises(HeldError, match="another one has taken its place"):
        site.night()
    assert (site.rows("scores"), site.rows("runs")) == ([], [])
    assert site.spark.table(on_a_site.name("why_changed")).isEmpty()  # changes of a run without a row
