"""What the long fault run keeps of its rounds, and how it lays them out."""

from __future__ import annotations

from pathlib import Path

from tests.faults.points import POINTS
from tests.faults.rounds import Round
from tests.faults.run import Record, point_of, table_of

GOOD = Round("all, at random", 3, survived=False, staged=100, rescored=False, equal=True)


def test_next_call_goes_on_after_rounds_that_have_ended(tmp_path: Path) -> None:
    first = Record(tmp_path / "rounds.jsonl")
    first.add(5, GOOD)
    first.add(2, GOOD)
    assert Record(tmp_path / "rounds.jsonl").rounds == {5: GOOD, 2: GOOD}


def test_half_of_the_rounds_are_at_named_points_each_in_turn() -> None:
    names = [point_of(at, seed=0, seconds=10).name for at in range(4 * len(POINTS))]
    assert names[1::2] == ["all, at random"] * 2 * len(POINTS)
    assert names[::2] == [point.name for point in POINTS] * 2


def test_table_counts_what_went_wrong() -> None:
    lost = Round("all, at random", 3, survived=False, staged=300, rescored=True, equal=False)
    ended = Round("an executor, while scoring", 0, survived=True, staged=0, rescored=False, equal=True)
    assert table_of([GOOD, lost, ended])[2:] == [
        "| all, at random | 2 | 0 | 0 | 200 | 1 | 1 |",
        "| an executor, while scoring | 1 | 1 | 1 | 0 | 0 | 1 |",
        "| all | 3 | | | | | 2 |",
    ]
    assert [one.passed for one in (GOOD, lost, ended)] == [True, False, True]
