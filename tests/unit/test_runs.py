"""What earlier runs say about a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import Row

from ptec_udf.nightly.runs import DONE, FAILED, RUNNING, History, new_run_id

NOW = datetime(2026, 5, 1, 2, 3, tzinfo=UTC)


def run(run_id: str, **changes: Any) -> Row:
    facts = {"run_id": run_id, "outcome": DONE, "source_id": "s", "source_version": 1, "alias": "champion"}
    return Row(**facts | {"model_id": "m", "drifted": [], "started": NOW} | changes)


def ids(rows: list[Row]) -> list[str]:
    return [row["run_id"] for row in rows]


class TestMeasured:
    def test_takes_the_first_run_of_a_version(self) -> None:
        history = History([run("a", drifted=["x"]), run("retry"), run("b", source_version=2), run("c", source_id="t")])
        assert ids(history.measured(alias="champion", model_id="m")) == ["a", "b", "c"]

    def test_leaves_out_failed_and_unmeasured_runs_and_others(self) -> None:
        rows = [run("failed", outcome=FAILED), run("unmeasured", drifted=None), run("id", alias=None)]
        history = History([*rows, run("other", model_id="n"), run("a")])
        assert ids(history.measured(alias="champion", model_id="m")) == ["a"]


class TestLastShown:
    def test_by_alias_or_by_model(self) -> None:
        history = History([run("old"), run("by id", alias=None), run("new", model_id="n"), run("x", outcome=FAILED)])
        assert history.last_shown(alias="champion", model_id="m")["run_id"] == "new"
        assert history.last_shown(alias=None, model_id="m")["run_id"] == "by id"
        assert history.last_shown(alias="other", model_id="m") is None


def test_unfinished_are_those_of_model_or_alias() -> None:
    rows = [run("model", alias=None), run("alias", model_id="n"), run("own"), run("other", alias="b", model_id="o")]
    history = History([Row(**row.asDict() | {"outcome": RUNNING}) for row in rows] + [run("done")])
    assert ids(history.unfinished(alias="champion", model_id="m", except_for="own")) == ["model", "alias"]


def test_newest_version_counts_done_runs_of_the_source() -> None:
    history = History([run("a", source_version=3), run("b", source_version=9, outcome=FAILED), run("c")])
    assert history.newest_version("m", "s") == 3
    assert history.newest_version("m", "other") == -1


def test_a_run_starts_after_all_others_whatever_the_clock_says() -> None:
    assert History([]).next_start(NOW) == NOW
    assert History([run("early", started=NOW - timedelta(hours=1))]).next_start(NOW) == NOW
    ahead = NOW + timedelta(minutes=2)
    assert History([run("ahead", started=ahead)]).next_start(NOW) == ahead + timedelta(microseconds=1)


def test_attempts_of_a_run_share_the_first_part_of_their_ids() -> None:
    def name(source_version: int) -> list[str]:
        return new_run_id("m", "s", source_version, alias="champion", text_id="t").split("-")

    first, second, other = name(1), name(1), name(2)
    assert first[0] == second[0] != other[0]
    assert first[1] != second[1]
