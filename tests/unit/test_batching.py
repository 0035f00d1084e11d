"""Batches hold every row once, under a budget of padded positions."""

from __future__ import annotations

import random

import pytest

from ptec_udf.engine.batching import length_sorted_batches


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("budget", [1, 17, 100, 4096])
def test_every_row_once_and_budget_kept(seed, budget):
    draw = random.Random(seed)
    lengths = [draw.randint(1, 60) for _ in range(draw.randint(1, 200))]
    batches = list(length_sorted_batches(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


def test_longest_rows_come_first():
    assert list(length_sorted_batches([1, 5, 3, 5], 10)) == [[1, 3], [2, 0]]


def test_row_over_the_budget_goes_alone():
    assert list(length_sorted_batches([2, 50, 2], 10)) == [[1], [0, 2]]


def test_batches_are_filled_up_to_the_budget():
    assert [len(batch) for batch in length_sorted_batches([4] * 10, 12)] == [3, 3, 3, 1]


def test_no_rows_make_no_batch():
    assert list(length_sorted_batches([], 10)) == []
