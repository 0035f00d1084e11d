"""Texts as Spark builds them: what drops out, how values are cleaned, and their hashes."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, SparkSession

from ptec_udf.text import render
from ptec_udf.text.template import MAX_CHARACTERS, is_cut, parse_template
from tests.hostile import hostile_rows
from tests.spark.texts import with_text

COMPANY = "Company name: {name}. Keywords: {tags}. Description: {one_liner} {long_description}"
SCHEMA = "name string, tags array<string>, one_liner string, long_description string"


def texts_of(df: DataFrame, template: str) -> list[str | None]:
    """Texts of the rows, in their order."""
    return [row.text for row in with_text(df.coalesce(1), parse_template(template)).select("text").collect()]


def texts(spark: SparkSession, template: str, rows: list[tuple[Any, ...]], schema: str) -> list[str | None]:
    """Texts of made-up rows, in their order."""
    return texts_of(spark.createDataFrame(rows, schema), template)


class TestSegments:
    def test_absent_values_drop_out_with_their_words(self, spark: SparkSession) -> None:
        cases: dict[tuple[Any, ...], str | None] = {
            ("A", ("x", "y"), "One.", "Long."): "Company name: A. Keywords: x, y. Description: One. Long.",
            (None, ("x", "y"), "One.", "Long."): "Keywords: x, y. Description: One. Long.",
            ("A", ("x",), None, "Long."): "Company name: A. Keywords: x. Description: Long.",
            ("A", ("x",), None, " \t"): "Company name: A. Keywords: x",
            ("A", (None, "  "), "One.", None): "Company name: A. Description: One.",
            ("A", (None, " b "), None, None): "Company name: A. Keywords: b",
            (None, None, None, None): None,
            ("\u200b\ufeff", (), "", "\x00"): None,
        }
        assert texts(spark, COMPANY, list(cases), SCHEMA) == list(cases.values())

    def test_separators_are_only_between_values(self, spark: SparkSession) -> None:
        rows = [("1", "2", "3"), (None, "2", "3"), ("1", None, "3"), (None, None, "3"), (None, None, None)]
        made = texts(spark, "{a} - {b} / {c} end", rows, "a string, b string, c string")
        assert made == ["1 - 2 / 3 end", "2 / 3 end", "1 / 3 end", "3 end", None]

    def test_literals_are_not_interpreted(self, spark: SparkSession) -> None:
        assert texts(spark, "It's 100% \\n $1 {{x}}: {a}", [("v",)], "a string") == ["It's 100% \\n $1 {x}: v"]


class TestValues:
    def test_white_space_and_invalid_bytes_are_cleaned(self, spark: SparkSession) -> None:
        assert texts(spark, "{a}", [("\u3000 a\r\n\tb\x00\x1fc\u2028d\u00a0\u2009e\u0085 ",)], "a string") == [
            "a b c d e"
        ]
        df = spark.sql("SELECT CAST(X'61FF62' AS STRING) AS s, X'C3A4FE' AS b, array(X'FF', X'7A') AS l")
        assert texts_of(df, "{s}|{b}|{l}") == ["a\ufffdb|ä\ufffd|\ufffd, z"]

    def test_only_a_million_characters_are_read(self, spark: SparkSession) -> None:
        whole, long, gaps = "é" * MAX_CHARACTERS, "ab" * MAX_CHARACTERS, "ab \n" * MAX_CHARACTERS
        rows = [(whole, None, whole, None), (long, ("x", long), None, "end"), ("\uffff a\uffff", None, gaps, "end")]
        first, second, third = texts(spark, COMPANY, rows, SCHEMA)
        cut = f"{long[:MAX_CHARACTERS]} \uffff"
        assert first == f"Company name: {whole}. Description: {whole}"
        assert second == f"Company name: {cut}. Keywords: x, {cut}. Description: end"
        assert third == f"Company name: a. Description: {'ab ' * (MAX_CHARACTERS // 4)}\uffff end"
        assert [is_cut(text) for text in (first, second, third)] == [False, True, True]

    def test_of_all_types_become_strings(self, spark: SparkSession) -> None:
        df = spark.sql(
            """SELECT 7 AS i, 1.50BD AS d, true AS t, DATE'2026-01-02' AS day, array(1, NULL, 3) AS n,
            named_struct('city', 'Köln', 'zip', NULL) AS s, map('k', 'v"') AS m,
            array(array('a', ''), array()) AS nested, array(named_struct('x', 1)) AS structs,
            NULL AS v, CAST(map() AS map<string, string>) AS none"""
        )
        (made,) = texts_of(df, "{i}|{d}|{t}|{day}|{n}|{s}|{m}|{nested}|{structs}|{v}|{none}")
        assert made == '7|1.50|true|2026-01-02|1, 3|{"city":"Köln"}|{"k":"v\\""}|a|{"x":1}'

    def test_times_are_in_utc_in_any_session(self, spark: SparkSession) -> None:
        times = ("2026-03-29 01:30:00Z", "2026-10-25 00:30:00.5Z", "1890-01-01 00:00:00Z")
        values = ", ".join(f"TIMESTAMP'{at}' AS t{n}" for n, at in enumerate(times))
        query = f"SELECT {values}, named_struct('at', TIMESTAMP'{times[0]}') AS s, array(TIMESTAMP'{times[1]}') AS a"
        expected = [f"{at.replace(' ', 'T')[:19]}.{'5' if '.5' in at else '0'}00Z" for at in times]
        expected += [f'{{"at":"{expected[0]}"}}', expected[1]]
        try:
            for zone in ("Europe/Berlin", "America/New_York"):
                spark.conf.set("spark.sql.session.timeZone", zone)
                made = texts_of(spark.sql(query), "{t0}|{t1}|{t2}|{s}|{a}")
                assert made == ["|".join(expected)]
        finally:
            spark.conf.set("spark.sql.session.timeZone", "UTC")


class TestColumns:
    def test_with_odd_names_are_found(self, spark: SparkSession) -> None:
        schema = "`a.b` string, `c``d` string, `e f: \"g'` string, `社` string"
        assert texts(spark, "{a.b}{c`d}{e f: \"g'}{社}", [("1", "2", "3", "4")], schema) == ["1234"]

    def test_can_be_mapped_or_absent(self, spark: SparkSession) -> None:
        df = spark.createDataFrame([("x", "y")], "text string, other string")
        made = with_text(df, parse_template("A: {text}. B: {b}. C: {c}"), {"b": "other", "c": None})
        assert made.columns == ["text", "other", "text_hash"]
        assert made.collect()[0].text == "A: x. B: y"


class TestPlainPython:
    """ptec_udf/text/render.py makes the same texts without Spark."""

    def test_of_hostile_rows_are_equal(self, spark: SparkSession) -> None:
        rows = [
            (name, [name, None, about] if name else None, about, name) for _, name, about in hostile_rows(3000, seed=4)
        ]
        frame = pd.DataFrame(rows, columns=["name", "tags", "one_liner", "long_description"], dtype=object)
        assert render.texts_of(frame, parse_template(COMPANY)) == texts(spark, COMPANY, rows, SCHEMA)

    def test_of_other_types_are_equal(self, spark: SparkSession) -> None:
        df = spark.sql("SELECT 7 AS i, true AS t, DATE'2026-01-02' AS day, array(1, NULL, 3) AS n, NULL AS v").coalesce(
            1
        )
        template = "{i}|{t}|{day}|{v}"
        assert render.texts_of(df.toPandas(), parse_template(template)) == texts_of(df, template)

    def test_long_values_are_cut_alike(self, spark: SparkSession) -> None:
        long = "ab \n" * MAX_CHARACTERS
        rows = [("é" * MAX_CHARACTERS, ["x", long], long, "end")]
        frame = pd.DataFrame(rows, columns=["name", "tags", "one_liner", "long_description"], dtype=object)
        assert render.texts_of(frame, parse_template(COMPANY)) == texts(spark, COMPANY, rows, SCHEMA)


def test_hash_is_of_the_utf8_text(spark: SparkSession) -> None:
    df = spark.createDataFrame([("Zoë 🙂",), (None,)], "a string").coalesce(1)
    first, second = with_text(df, parse_template("{a}!")).collect()
    assert first.text_hash == hashlib.sha256("Zoë 🙂!".encode()).hexdigest()
    assert second.text_hash is None
