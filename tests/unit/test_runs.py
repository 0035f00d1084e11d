"""What earlier runs say to a night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import Row

from ptec_udf.nightly.runs import DONE, FAILED, History, run_name
from ptec_udf.warehouse.source import PinnedSource


def run(run_id: str, **changes: Any) -> Row:
    facts = {"run_id": run_id, "outcome": DONE, "source_id": "s", "source_version": 1, "alias": "champion"}
    return Row(**facts | {"model_id": "m", "drifted": []} | changes)


def measured(*rows: Row) -> list[str]:
    return [row["run_id"] for row in History(list(rows)).measured(alias="champion", model_id="m")]


def test_the_first_run_on_a_version_is_the_night_that_was_measured() -> None:
    night, retry = run("night", drifted=["a figure"]), run("retry")
    assert measured(night, retry, run("next", source_version=2)) == ["night", "next"]
    assert measured(night, run("other source", source_id="t")) == ["night", "other source"]


def test_runs_that_failed_or_were_not_measured_are_no_nights() -> None:
    failed, unmeasured = run("failed", outcome=FAILED), run("unmeasured", drifted=None)
    of_others = [run("other alias", alias=None), run("other model", model_id="n")]
    assert measured(failed, unmeasured, *of_others, run("night")) == ["night"]


def test_later_runs_of_the_same_model_by_another_name() -> None:
    last, by_id, challenger = run("last"), run("by id", alias=None), run("challenger", alias="challenger")
    others = [run("failed", alias=None, outcome=FAILED), run("other model", alias=None, model_id="n"), run("own")]
    history = History([run("before", alias=None), last, by_id, *others, challenger])
    assert history.of_others_since(last) == [by_id, challenger]
    assert history.of_others_since(None) == []


def test_a_run_begins_after_all_on_record_whatever_the_clock_says(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime(2026, 5, 1, 2, 3, tzinfo=UTC)
    assert History([]).after(now) == now
    assert History([run("early", started=now - timedelta(hours=1))]).after(now) == now
    ahead = History([run("ahead", started=now + timedelta(minutes=2)), run("early", started=now)])
    assert ahead.after(now) == now + timedelta(minutes=2, microseconds=1)
    assert capsys.readouterr().err == ""
    far = now + timedelta(days=999)
    assert History([], [run("far ahead", started=far)]).after(now) == far + timedelta(microseconds=1)
    assert "warning: a run of 2029-01-24 02:03 is on record, later than now" in capsys.readouterr().err


def test_no_name_is_given_twice_although_rows_were_removed() -> None:
    source = PinnedSource("companies", "delta", "s", 1)
    names = {"model_id": "m", "alias": "champion", "source": source, "text_id": "t", "retries_errors": False}
    name = run_name(**names)

    def next_after(*rows: Row) -> str:
        return History(list(rows)).run_id(**names)

    assert next_after() == f"{name}-1"
    assert next_after(run(f"{name}-1"), run("another-7")) == f"{name}-2"
    assert next_after(run(f"{name}-11")) == f"{name}-12"  # the ten before it are gone
    assert next_after(run(f"{name}-1"), run(f"{name}-2", outcome=FAILED)) == f"{name}-2"
