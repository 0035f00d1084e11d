"""``ptec estimate``: what is counted is what the night then does, and the night's row names the estimate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptec_udf.warehouse.tables import Warehouse
from tests.spark.support import Site, changed_companies, companies
from tests.spark.test_commands import run
from tests.tiny import tiny_companies

MEASURED = {"estimate": {"seconds": 2}, "engine": {"dtype": "float32"}}


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    made = Site(warehouse, tmp_path)
    made.champion()
    return made


def estimated(site: Site, *shadows: str) -> dict:
    command = run(site, "estimate", "--json", shadows=list(shadows), **MEASURED)
    assert command.exit_code == 0, command.output
    assert ("shadows are not in it: other" in command.stderr) == bool(shadows)
    return json.loads(command.stdout.strip().splitlines()[-1])


def test_night_does_what_was_estimated(site: Site) -> None:
    site.write([(company["key"], company["name"], company["about"]) for company in tiny_companies(600)])
    found = estimated(site)
    assert (found["companies"], found["texts"], found["dtype"]) == (600, 600, "float32")
    assert 0 < found["scoring_seconds"] < found["seconds"]
    assert 0 <= found["least"] < found["seconds"] < found["most"]
    by_slots = {int(slots): seconds for slots, seconds in found["seconds_by_slots"].items()}
    assert by_slots[found["slots"]] == pytest.approx(found["seconds"])
    assert by_slots[1] > by_slots[64] > found["seconds"] - found["scoring_seconds"]
    assert 0 < found["memory_mb"]["each_worker"] < 5_000
    assert not site.scores()
    result = site.night()
    assert result["estimated_seconds"] == pytest.approx(found["seconds"], abs=0.1)
    assert found["tokens"] == pytest.approx(result["tokens"], rel=0.05)
    summary = site.spark.table(site.warehouse.name("run_summary")).collect()
    assert {row["command"]: row["outcome"] for row in summary} == {"estimate": "estimated", "score": "done"}
    assert {row["estimated_seconds"] for row in summary} == {result["estimated_seconds"]}
    of_estimate, of_night = sorted((row for row in summary), key=lambda row: row["command"])
    assert of_estimate["estimate_error"] is None
    assert of_night["estimate_error"] == pytest.approx(of_night["seconds"] / found["seconds"] - 1, abs=0.01)


@pytest.mark.long
def test_only_what_changed_is_counted_and_an_old_estimate_is_of_no_night(site: Site) -> None:
    site.write(companies())
    estimated(site)
    site.night()
    nothing = estimated(site)
    assert (nothing["texts"], nothing["companies"]) == (0, 0)
    assert nothing["reason"].startswith("nothing to do")
    site.write(changed_companies())
    found = estimated(site, "other")
    assert (found["companies"], found["texts"]) == (3, 2)
    site.write([*changed_companies(), ("later", "later", "a later one")])
    assert site.night()["estimated_seconds"] is None
