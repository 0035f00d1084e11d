"""Texts in plain Python; tests/spark/test_text.py compares them with Spark's."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from ptec_udf.errors import SourceError
from ptec_udf.text.render import clean, is_null, render, texts_of
from ptec_udf.text.template import CUT_MARK, MAX_CHARACTERS, parse_template

TEMPLATE = parse_template("Name: {name}. Tags: {tags}. {about}")
WHOLE = parse_template("{text}")


def test_clean() -> None:
    assert clean("\u3000 a\r\n\tb\x00\x1fc\u2028d\u00a0\u2009e\u0085 ") == "a b c d e"
    assert clean(" \u200b\ufeff\x00 ") is None
    assert clean("a\ud800b") == "a\ufffdb"
    assert clean("é" * MAX_CHARACTERS) == "é" * MAX_CHARACTERS
    assert clean("ab" * MAX_CHARACTERS) == f"{'ab' * (MAX_CHARACTERS // 2)} {CUT_MARK}"


def test_missing_values_drop_out_with_their_words() -> None:
    rows = [("A", ["x", None, " y "], "One."), (None, [], " "), ("A", None, float("nan")), (pd.NA, ["x"], "One.")]
    found = [render(TEMPLATE, dict(zip(("name", "tags", "about"), row, strict=True))) for row in rows]
    assert found == ["Name: A. Tags: x, y. One.", None, "Name: A", "Tags: x. One."]


def test_values_that_read_alike_everywhere() -> None:
    values = [2004, np.int64(7), True, datetime.date(2026, 2, 1), ("b", 3), None]
    assert texts_of(values, WHOLE) == ["2004", "7", "true", "2026-02-01", "b, 3", None]


@pytest.mark.parametrize("value", [2004.0, {"a": 1}, datetime.datetime(2026, 2, 1), [0.5], object()])
def test_others_are_refused_with_their_column(value: object) -> None:
    with pytest.raises(SourceError, match=r"column 'about' must have text.*convert it to text"):
        render(TEMPLATE, {"name": "A", "tags": None, "about": value})


class TestTextsOf:
    def test_table_has_the_columns_of_the_template(self) -> None:
        frame = pd.DataFrame({"about": ["b", None], "name": ["a", "c"], "tags": [["t"], None]}, index=[5, 9])
        assert texts_of(frame, TEMPLATE) == ["Name: a. Tags: t. b", "Name: c"]
        with pytest.raises(SourceError, match=r"no column 'tags'.*\n?.*") as caught:
            texts_of(frame.rename(columns={"tags": "tag"}), TEMPLATE)
        assert "did you mean 'tag'?" in str(caught.value)

    def test_polars(self) -> None:
        polars = pytest.importorskip("polars")
        frame = polars.DataFrame({"name": ["a", None], "tags": [["t", "u"], None], "about": ["b", "c"]})
        assert texts_of(frame, TEMPLATE) == ["Name: a. Tags: t, u. b", "Tags: c"]
        assert texts_of(polars.Series(["a ", None]), WHOLE) == ["a", None]

    def test_hugging_face(self) -> None:
        datasets = pytest.importorskip("datasets")
        rows = datasets.Dataset.from_dict({"text": ["a ", None]})
        assert texts_of(rows, WHOLE) == texts_of(rows["text"], WHOLE) == ["a", None]

    def test_list_is_of_whole_texts_or_of_the_only_field(self) -> None:
        assert texts_of(["Name:  a", None], TEMPLATE) == ["Name:  a", None]
        assert texts_of(np.array(["a  b", ""], dtype=object), WHOLE) == ["a b", None]

    @pytest.mark.parametrize("texts", ["We insure drones.", 5, None])
    def test_single_text_is_refused(self, texts: object) -> None:
        with pytest.raises(SourceError, match=r"must be a list, a column or a table.*pass \[text\]"):
            texts_of(texts, WHOLE)


def test_null() -> None:
    assert [value for value in (None, float("nan"), pd.NA, pd.NaT, np.nan) if not is_null(value)] == []
    assert [value for value in ("", 0, "nan", False) if is_null(value)] == []
