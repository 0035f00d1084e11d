"""The report of real runs shows what their tables contain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import Row

from ptec_jobs.report.collect import collect, find_run
from ptec_jobs.report.render import render
from ptec_udf.errors import RegistryError
from tests.spark.support import Site, changed_companies, companies
from tests.tiny import LABELS

pytestmark = pytest.mark.long


def newest(site: Site, **wanted: Any) -> Row:
    return find_run(site.warehouse, **({"run_id": None, "model_id": None, "alias": "champion"} | wanted))


class TestFacts:
    def test_equal_the_tables(self, site: Site) -> None:
        site.champion()
        site.write(companies())
        site.run("drift.measure=true")
        site.write([*changed_companies(), ("twice", "a", "b"), ("twice", "a", "c")])
        scores, keys = site.scores(), ("c0010", "c0011", "c0012", "c0013")
        site.correct(*((key, LABELS[0], LABELS[0] not in scores[key]["labels"]) for key in keys))
        done = site.run("drift.measure=true")
        found = newest(site)
        assert found["run_id"] == done["run_id"]
        facts = collect(site.warehouse, found)
        changes = [row for row in site.warehouse.read("score_changes").collect() if row["run_id"] == done["run_id"]]
        assert changes
        for row in facts["labels"]:
            for name, entered in (("entered", True), ("left", False)):
                expected = [one for one in changes if one["label"] == row["label"] and one["entered"] is entered]
                side = row[name] or {"companies": 0, "reasons": {}, "first": []}
                assert side["companies"] == sum(side["reasons"].values()) == len(expected)
                assert [one["key"] for one in side["first"]] == _by_probability(expected, entered)
        by_side = {side: {one["key"] for one in changes if one["entered"] is side} for side in (True, False)}
        assert facts["moved_companies"] == {side: len(keys) for side, keys in by_side.items() if keys}
        active = [row for row in site.warehouse.read("scores").collect() if row["removed_in"] is None]
        n_companies = {label: sum(label in row["labels"] for row in active) for label in LABELS}
        assert {row["label"]: row["companies"] for row in facts["labels"]} == n_companies
        assert facts["companies"] == len(active)
        assert [(kind["companies"], kind["keys"]) for kind in facts["errors"]] == [(1, ["twice"])]
        assert next(row["run_id"] for row in facts["runs"]) == done["run_id"]
        failed = collect(site.warehouse, Row(**(found.asDict() | {"outcome": "failed"})))
        assert {(row["entered"], row["left"]) for row in failed["labels"]} == {(None, None)}
        assert failed["moved_companies"] == {}
        page = render(facts)
        assert done["run_id"] in page
        assert f"<h1>\n{len(active)} companies checked; " in page
        assert "text about other things" not in page


def _by_probability(changes: list[Row], entered: bool) -> list[str]:
    name = "new_probability" if entered else "old_probability"
    return [row["key"] for row in sorted(changes, key=lambda row: (-(row[name] or 0), row["key"]))][:10]


class TestRun:
    def test_is_found_by_id_model_and_alias(self, scored: Site) -> None:
        first = newest(scored)
        run_id, model_id = first["run_id"], first["model_id"]
        assert newest(scored, run_id=run_id[:8], alias="x")["run_id"] == run_id
        assert newest(scored, model_id=model_id[:8], alias="x")["run_id"] == run_id
        for wanted, message in (({"alias": "x"}, "no run of alias 'x' that is done"), ({"run_id": "zz"}, "with 'zz'")):
            with pytest.raises(RegistryError, match=message):
                newest(scored, **wanted)
        scored.warehouse.append("runs", [first.asDict() | {"run_id": f"{run_id}0", "ended": datetime.now(UTC)}])
        assert newest(scored, run_id=run_id)["run_id"] == run_id  # and not the longer id

    def test_that_came_later_is_named(self, scored: Site) -> None:
        found = newest(scored)
        assert collect(scored.warehouse, found)["later"] is None
        later = found.asDict() | {"run_id": "later-1", "outcome": "failed", "error": "x", "ended": datetime.now(UTC)}
        scored.warehouse.append("runs", [later, later | {"run_id": "other-1", "alias": "challenger"}])
        assert newest(scored)["run_id"] == found["run_id"]
        assert collect(scored.warehouse, found)["later"]["run_id"] == "later-1"
        scored.warehouse.append("runs", [later | {"outcome": "nothing_to_do", "ended": datetime.now(UTC)}])
        assert collect(scored.warehouse, found)["later"]["outcome"] == "nothing_to_do"

    def test_that_is_running_has_a_page(self, scored: Site) -> None:
        running = newest(scored).asDict() | {"run_id": "running-1", "outcome": "running", "ended": None}
        scored.warehouse.append("runs", [running])
        page = render(collect(scored.warehouse, newest(scored, run_id="running-1")))
        assert "Running: no company entered or left a screen" in page

    def test_names_the_gate_of_the_newest_move_to_the_model(self, scored: Site) -> None:
        found = newest(scored)
        assert collect(scored.warehouse, found)["gate"] == "first"
        move = next(row for row in scored.warehouse.read("aliases").collect() if row["alias"] == "champion").asDict()
        moves = [("forced: gain", found["model_id"], "champion"), ("passed", "other", "champion")]
        moves += [("passed", found["model_id"], "challenger")]
        for gate, model_id, alias in moves:
            more = {"gate": gate, "model_id": model_id, "alias": alias, "at": datetime.now(UTC)}
            scored.warehouse.append("aliases", [move | more])
        assert collect(scored.warehouse, found)["gate"] == "forced: gain"
