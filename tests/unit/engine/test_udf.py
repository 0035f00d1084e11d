"""Arrow batches become windows of texts, and results rows of a struct."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ptec_udf.engine.result import EMPTY, OK, ScoredText
from ptec_udf.engine.udf import SCORED, score_windows, to_frame, windows


class CountingScorer:
    """Scores texts by their length."""

    def score(self, texts):
        return [ScoredText(OK, n_tokens=len(text or "")) for text in texts]


class TestWindows:
    @pytest.mark.parametrize("max_rows", [1, 3, 7, 100])
    def test_keep_rows_and_their_order(self, max_rows):
        batches = [pd.Series(list("abcde")), pd.Series([], dtype=object), pd.Series(["f", None, "h"])]
        made = list(windows(iter(batches), max_rows, 10**6))
        assert [text for window in made for text in window] == [*"abcdef", None, "h"]
        assert max(map(len, made)) <= max_rows
        assert all(len(window) == max_rows for window in made[:-1])

    def test_close_at_a_number_of_bytes(self):
        made = list(windows(iter([pd.Series(["ä" * 6, "b", "c" * 30, "d"])]), 100, 12))
        assert [len(window) for window in made] == [1, 2, 1]

    def test_load_no_model_if_there_are_none(self):
        assert list(score_windows(iter([]), lambda: pytest.fail("loaded"))) == []

    def test_load_the_model_once(self):
        loads = []
        found = list(score_windows(iter([["a"], ["bb", None]]), lambda: loads.append(1) or CountingScorer()))
        assert [[result.n_tokens for result in results] for _, results in found] == [[1], [2, 0]]
        assert (loads, [texts for texts, _ in found]) == ([1], [["a"], ["bb", None]])


class TestFrame:
    def test_has_the_struct_s_fields(self):
        frame = to_frame([ScoredText(OK, 3, 0, None, np.array([1.0, 2.0], np.float32), 4), ScoredText()])
        assert list(frame.columns) == SCORED.names
        assert frame["status"].tolist() == [OK, EMPTY]
        assert frame["logits"][0].tolist() == [1.0, 2.0]
        assert frame["logits"][1] is None
