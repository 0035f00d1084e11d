"""Batches by length, and padding."""

from __future__ import annotations

import random

from ptec_udf.engine.encoder import length_sorted_batches, pad_batch


class TestBatches:
    def test_each_row_is_in_one_batch_within_the_budget(self):
        draw = random.Random(0)
        for budget in (1, 7, 40, 1000):
            lengths = [draw.randint(1, 30) for _ in range(50)]
            batches = list(length_sorted_batches(lengths, budget))
            assert sorted(row for batch in batches for row in batch) == list(range(50))
            for batch in batches:
                assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget

    def test_longest_rows_come_first(self):
        assert list(length_sorted_batches([2, 9, 3, 1], 6)) == [[1], [2, 0], [3]]
        assert list(length_sorted_batches([], 6)) == []


def test_padding_is_on_the_right():
    ids, mask = pad_batch([[5, 6, 7], [8]], 9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
