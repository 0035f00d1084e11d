"""The report of real nights says what their tables say."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import Row

from jobs.report.collect import collect, find_run
from jobs.report.render import render
from ptec_udf.errors import RegistryError
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.support import Site, changed_companies, companies
from tests.spark.test_commands import refused, run
from tests.tiny import LABELS


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    made = Site(warehouse, tmp_path, ["drift.measure=true"])
    made.champion()
    made.write(companies())
    made.night()
    made.write([*changed_companies(), ("twice", "a", "b"), ("twice", "a", "c")])
    return made


def test_a_night_is_reported_as_its_tables_tell_it(site: Site) -> None:
    scores, keys = site.scores(), ("c0010", "c0011", "c0012", "c0013")
    site.correct(*((key, LABELS[0], LABELS[0] not in scores[key]["labels"]) for key in keys))
    night = site.night()
    found = find_run(site.warehouse, run_id=None, model_id=None, alias="champion")
    assert found["run_id"] == night["run_id"]
    facts = collect(site.warehouse, found)
    changes = [row for row in site.warehouse.read("score_changes").collect() if row["run_id"] == night["run_id"]]
    assert changes
    for row in facts["labels"]:
        for name, entered in (("entered", True), ("left", False)):
            expected = [one for one in changes if one["label"] == row["label"] and one["entered"] is entered]
            moved = row[name]
            assert (moved["companies"] if moved else 0) == len(expected)
            if moved:
                assert sum(moved["reasons"].values()) == len(expected)
                assert [one["key"] for one in moved["named"]] == _by_probability(expected, entered)
    assert {row["label"] for row in facts["labels"]} == set(LABELS)
    standing = [row for row in site.warehouse.read("scores").collect() if row["removed_in"] is None]
    assert {row["label"]: row["companies"] for row in facts["labels"]} == {
        label: sum(label in row["labels"] for row in standing) for label in LABELS
    }
    assert [(kind["companies"], kind["keys"]) for kind in facts["errors"]] == [(1, ["twice"])]
    assert [len(shares) for shares in facts["shares"].values()] == [2] * len(LABELS)
    failed = collect(site.warehouse, Row(**(found.asDict() | {"outcome": "failed"})))
    assert {(row["entered"], row["left"]) for row in failed["labels"]} == {(None, None)}
    page = render(facts)
    assert night["run_id"] in page
    assert "text about other things" not in page


def _by_probability(changes: list, entered: bool) -> list[str]:
    name = "new_probability" if entered else "old_probability"
    return [row["key"] for row in sorted(changes, key=lambda row: (-(row[name] or 0), row["key"]))][:10]


def test_a_night_that_failed_after_the_one_that_is_shown_is_named(scored: Site) -> None:
    found = find_run(scored.warehouse, run_id=None, model_id=None, alias="champion")
    assert collect(scored.warehouse, found)["failed_since"] is None
    later = found.asDict() | {"run_id": "later-1", "outcome": "failed", "error": "x", "ended": datetime.now(UTC)}
    scored.warehouse.append_rows("runs", [later, later | {"run_id": "of another screen", "alias": "challenger"}])
    assert find_run(scored.warehouse, run_id=None, model_id=None, alias="champion")["run_id"] == found["run_id"]
    assert collect(scored.warehouse, found)["failed_since"]["run_id"] == "later-1"
    scored.warehouse.append_rows("runs", [later | {"outcome": "nothing_to_do", "ended": datetime.now(UTC)}])
    assert collect(scored.warehouse, found)["failed_since"] is None


def test_a_report_replaces_what_a_link_points_to_and_no_device(scored: Site, tmp_path: Path) -> None:
    page, link = tmp_path / "page.html", tmp_path / "report.html"
    page.write_text("of last night", encoding="utf-8")
    link.symlink_to(page)
    assert run(scored, "report", "--out", str(link)).exit_code == 0
    assert link.is_symlink()
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    os.mkfifo(tmp_path / "pipe")
    refused(run(scored, "report", "--out", str(tmp_path / "pipe")), "--out must be a file")


def test_a_whole_id_is_not_taken_for_the_beginning_of_another(scored: Site) -> None:
    first = scored.warehouse.read("runs").first().asDict()
    scored.warehouse.append_rows("runs", [first | {"run_id": f"{first['run_id']}0", "ended": datetime.now(UTC)}])
    found = find_run(scored.warehouse, run_id=first["run_id"], model_id=None, alias="x")
    assert found["run_id"] == first["run_id"]


def test_runs_are_found_by_their_beginning_and_by_model(scored: Site) -> None:
    first = scored.warehouse.read("runs").first()
    model_id = first["model_id"]
    assert find_run(scored.warehouse, run_id=first["run_id"][:8], model_id=None, alias="x")["run_id"] == first["run_id"]
    assert find_run(scored.warehouse, run_id=None, model_id=model_id[:8], alias="x")["run_id"] == first["run_id"]
    with pytest.raises(RegistryError, match="there is no run of alias 'x' that is done"):
        find_run(scored.warehouse, run_id=None, model_id=None, alias="x")
    with pytest.raises(RegistryError, match="begins with 'zz'"):
        find_run(scored.warehouse, run_id="zz", model_id=None, alias="champion")
