"""Arrow batches are joined into windows of bounded size, in order and without loss; no Spark is started."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ptec_udf.engine.result import EMPTY, OK, ScoredText
from ptec_udf.engine.udf import SCORED, to_frame, windows


def series(*batches):
    return iter([pd.Series(batch, dtype=object) for batch in batches])


@pytest.mark.parametrize("most_rows", [1, 2, 3, 5, 100])
def test_order_is_kept_and_nothing_is_lost(most_rows):
    batches = [["a", "b", "c"], [], [None], ["d", "", "e", "f"]]
    found = list(windows(series(*batches), most_rows, 10**6))
    assert [text for window in found for text in window] == ["a", "b", "c", None, "d", "", "e", "f"]
    assert all(1 <= len(window) <= most_rows for window in found)


def test_small_batches_are_joined_and_a_large_one_is_parted():
    found = list(windows(series(["a"], ["b"], ["c", "d", "e", "f", "g"]), 3, 10**6))
    assert found == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


def test_window_closes_once_it_holds_its_bytes():
    found = list(windows(series(["x" * 4, "x" * 4, "x" * 4, "x"]), 100, 8))
    assert [len(window) for window in found] == [2, 2]


def test_giant_text_closes_its_window():
    found = list(windows(series(["a", "x" * 50, "b", None, "c"]), 100, 10))
    assert [len(window) for window in found] == [2, 3]


def test_bytes_are_counted_and_not_characters():
    found = list(windows(series(["金融金融", "金融金融"]), 100, 12))
    assert [len(window) for window in found] == [1, 1]


def test_nulls_count_as_rows():
    assert [len(window) for window in windows(series([None] * 5), 2, 10)] == [2, 2, 1]


@pytest.mark.parametrize("batches", [(), ([],), ([], [])])
def test_partition_without_rows_gives_no_window(batches):
    assert list(windows(series(*batches), 10, 10)) == []


def test_windows_are_given_before_everything_is_read():
    read = []

    def source():
        for at in range(5):
            read.append(at)
            yield pd.Series(["a", "b"])

    assert next(windows(source(), 2, 10**6)) == ["a", "b"]
    assert read == [0]


def test_frame_has_a_column_for_every_field_and_a_row_for_every_text():
    logits = np.array([0.5, -1.0], np.float32)
    frame = to_frame([ScoredText(OK, 4, 0, None, logits, 6), ScoredText()])
    assert list(frame.columns) == SCORED.names
    assert frame["status"].tolist() == [OK, EMPTY]
    assert frame["batch_positions"].tolist() == [6, 0]
    assert frame["logits"][0] is logits
    assert frame["logits"][1] is None
