"""A night on a site's metastore that is killed leaves its hold, and its rerun waits for the end of that."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.processes import TIMEOUT_S, table_rows
from tests.faults.driver import Driver
from tests.faults.points import IN_ONE_PROCESS, processes_of, slices_staged
from tests.faults.rounds import Undisturbed
from tests.faults.site import FaultSite

LEASE_S = "40"


@pytest.mark.long
def test_rerun_takes_the_hold_of_a_killed_night_over_and_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    site = FaultSite.prepare(tmp_path / "site")
    undisturbed = Undisturbed.of(site, IN_ONE_PROCESS)
    site.restore()
    first, second = (Driver.start(site, tmp_path / name, LEASE_S) for name in ("first", "second"))
    first.wait()
    second.wait()
    first.order([])
    end = time.monotonic() + TIMEOUT_S
    while not slices_staged(1)(site):
        assert time.monotonic() < end
        time.sleep(0.01)
    for process in processes_of(first.process.pid):
        os.kill(process.pid, signal.SIGKILL)
    (left,) = table_rows(site.table("holds"), ())
    result = second.night()
    assert f"run {left['run_id']} holds the scores of this model; waiting" in second.said()
    assert (result["outcome"], result["run_id"]) == ("done", left["run_id"])
    assert site.tables() == undisturbed.tables
    second.close()
