"""What the long fault run keeps of its rounds, and how it lays them out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ptec_udf.nightly.runs import DONE
from tests.e2e.processes import ROOT
from tests.faults import rounds, run
from tests.faults.points import AT_RANDOM, IN_ONE_PROCESS, POINTS, Process, executor, workers
from tests.faults.rounds import Round, Undisturbed
from tests.faults.run import Record, point_of, table_of

GOOD = Round(AT_RANDOM, "texts staged", 3, survived=False, staged=100, rescored=False, outcome=DONE, equal=True)


def test_next_call_goes_on_after_rounds_that_have_ended(tmp_path: Path) -> None:
    first = Record(tmp_path / "rounds.jsonl", "code")
    first.add(5, GOOD)
    first.add(2, GOOD)
    assert Record(tmp_path / "rounds.jsonl", "code").rounds == {5: GOOD, 2: GOOD}


def test_rounds_of_other_code_do_not_count(tmp_path: Path) -> None:
    Record(tmp_path / "rounds.jsonl", "code").add(5, GOOD)
    other = Record(tmp_path / "rounds.jsonl", "other")
    assert other.rounds == {}
    other.add(1, GOOD)
    assert Record(tmp_path / "rounds.jsonl", "code").rounds == {}


def test_half_of_the_rounds_are_at_named_points_each_in_turn() -> None:
    names = [point_of(at, seed="0", seconds=10).name for at in range(4 * len(POINTS))]
    assert names[1::2] == [AT_RANDOM] * 2 * len(POINTS)
    assert names[::2] == [point.name for point in POINTS] * 2
    by_command = [point_of(at, seed="0", seconds=10).again_by_command for at in range(0, 4 * len(POINTS), 2)]
    assert by_command == [*[True] * len(POINTS), *[False] * len(POINTS)]


def test_some_reruns_open_the_catalog_that_the_killed_night_left() -> None:
    assert [point_of(at, seed="0", seconds=10).again_by_command for at in range(1, 16, 2)] == [True, *[False] * 3] * 2


_DAEMON = "python -m ptec_udf.engine.daemon pyspark.worker"


def test_workers_are_the_forks_of_the_daemon_that_a_driver_started() -> None:
    night = [
        Process(10, 1, "ptec score"),
        Process(11, 10, "java --conf spark.python.daemon.module=ptec_udf.engine.daemon SparkSubmit"),
        Process(12, 11, _DAEMON),
        *(Process(pid, 12, _DAEMON) for pid in (13, 14)),
    ]
    assert [one.pid for one in workers(night)] == [13, 14]
    assert workers(night[:3]) == executor(night[:3]) == []


def test_an_executor_goes_with_its_python_and_the_other_stays() -> None:
    hosts = [
        [Process(pid, 11, "java CoarseGrainedExecutorBackend"), Process(pid + 1, pid, _DAEMON)] for pid in (20, 30)
    ]
    driver = [
        Process(10, 1, "ptec score"),
        Process(11, 10, "java --conf spark.python.daemon.module=ptec_udf.engine.daemon"),
    ]
    night = [*driver, *hosts[0], *hosts[1], Process(32, 31, _DAEMON)]
    assert [one.pid for one in workers(night)] == [32]  # the first executor has had no task
    assert [one.pid for one in executor(night)] == [30, 31, 32]


def test_night_that_ends_before_its_moment_is_tried_at_others(monkeypatch: pytest.MonkeyPatch) -> None:
    missed = replace(GOOD, killed=0)
    unused: Any = None
    wrong = replace(missed, equal=False)
    undisturbed = {IN_ONE_PROCESS: Undisturbed(tables={}, reused=0, n_staged=0, seconds=10)}
    for outcomes in ([missed, missed, GOOD], [missed, wrong], [missed] * 3):
        left = iter(outcomes)
        monkeypatch.setattr(rounds, "run_round", lambda *_, left=left: next(left))
        assert run._hit(unused, unused, undisturbed, 1, seed=0) == outcomes[-1]
        assert next(left, None) is None


def test_table_counts_what_went_wrong() -> None:
    lost = replace(GOOD, staged=300, rescored=True, equal=False)
    late = replace(GOOD, step="merged", staged=0)
    went_on = replace(GOOD, point="an executor, while scoring", step="nothing yet", survived=True, staged=0)
    missed, failed = replace(GOOD, killed=0), replace(GOOD, step="merged", outcome="failed", equal=False, staged=0)
    assert table_of([late, GOOD, lost, went_on, failed])[2:] == [
        "| an executor, while scoring | nothing yet | 1 | 1 | 0 | 1 | 0 | 1 |",
        "| all, at random | texts staged | 2 | 0 | 200 | 2 | 1 | 1 |",
        "| all, at random | merged | 2 | 0 | 0 | 1 | 0 | 1 |",
        "| all | | 5 | | | | | 3 |",
    ]
    assert [one.passed for one in (GOOD, lost, went_on, missed, failed)] == [True, False, True, False, False]


def test_the_record_is_laid_out_as_its_table_shows() -> None:
    folder = ROOT / "docs" / "benchmarks" / "kills"
    lines = (folder / "rounds.jsonl").read_text("utf-8").splitlines()
    code = json.loads(lines[0])["code"]
    kept = Record(folder / "rounds.jsonl", code).rounds
    assert len(kept) == len(lines)
    assert table_of(list(kept.values())) == (folder / "table.md").read_text("utf-8").splitlines()
    assert all(one.passed for one in kept.values())
