"""Texts as Spark makes them: what drops out, how values are cleaned, and their hashes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.text.template import MAX_CHARACTERS, is_cut, parse_template
from tests.spark.texts import with_text

COMPANY = "Company name: {name}. Keywords: {tags}. Description: {one_liner} {long_description}"
SCHEMA = "name string, tags array<string>, one_liner string, long_description string"


def texts(spark: SparkSession, template: str, rows: list[tuple[Any, ...]], schema: str) -> list[str | None]:
    """Texts of the rows, in their order."""
    df = spark.createDataFrame(rows, schema).coalesce(1)
    return [row.text for row in with_text(df, parse_template(template)).collect()]


def test_absent_values_drop_out_with_their_words(spark: SparkSession) -> None:
    cases: dict[tuple[Any, ...], str | None] = {
        ("A", ("x", "y"), "One.", "Long."): "Company name: A. Keywords: x, y. Description: One. Long.",
        (None, ("x", "y"), "One.", "Long."): "Keywords: x, y. Description: One. Long.",
        ("A", ("x",), None, "Long."): "Company name: A. Keywords: x. Description: Long.",
        ("A", ("x",), "One.", None): "Company name: A. Keywords: x. Description: One.",
        ("A", ("x",), None, " \t"): "Company name: A. Keywords: x",
        ("A", (), "One.", None): "Company name: A. Description: One.",
        ("A", (None, "  "), "One.", None): "Company name: A. Description: One.",
        ("A", (None, " b "), None, None): "Company name: A. Keywords: b",
        (None, None, None, "Long."): "Description: Long.",
        (None, None, None, None): None,
        ("\u200b\ufeff", (), "", "\x00"): None,
    }

    assert texts(spark, COMPANY, list(cases), SCHEMA) == list(cases.values())


def test_of_a_value_a_million_characters_are_read(spark: SparkSession) -> None:
    whole, long = "é" * MAX_CHARACTERS, "ab" * MAX_CHARACTERS
    gaps = "ab \n" * MAX_CHARACTERS
    rows = [(whole, None, whole, None), (long, ("x", long), None, "end"), ("\uffff a\uffff", None, gaps, "end")]
    first, second, third = texts(spark, COMPANY, rows, SCHEMA)
    assert first == f"Company name: {whole}. Description: {whole}"
    cut = f"{long[:MAX_CHARACTERS]} \uffff"
    assert second == f"Company name: {cut}. Keywords: x, {cut}. Description: end"
    assert third == f"Company name: a. Description: {'ab ' * (MAX_CHARACTERS // 4)}\uffff end"
    assert [is_cut(text) for text in (first, second, third)] == [False, True, True]


def test_separators_within_a_segment_stand_only_between_values(spark: SparkSession) -> None:
    rows = [("1", "2", "3"), (None, "2", "3"), ("1", None, "3"), ("1", "2", None), (None, None, "3")]

    made = texts(spark, "{a} - {b} / {c}", rows, "a string, b string, c string")

    assert made == ["1 - 2 / 3", "2 / 3", "1 / 3", "1 - 2", "3"]


def test_a_tail_needs_a_value_before_it(spark: SparkSession) -> None:
    assert texts(spark, "{a} Class:", [("x",), (None,)], "a string") == ["x Class:", None]


def test_white_space_and_control_characters_become_one_space(spark: SparkSession) -> None:
    raw = "\u3000 a\r\n\tb\x00\x1fc\u2028d\u00a0\u2009e\u0085 "

    assert texts(spark, "{a}", [(raw,)], "a string") == ["a b c d e"]


def test_invalid_bytes_are_replaced_in_strings_and_binaries(spark: SparkSession) -> None:
    df = spark.sql("SELECT CAST(X'61FF62' AS STRING) AS s, X'C3A4FE' AS b, array(X'FF', X'7A') AS l")

    assert [row.text for row in with_text(df, parse_template("{s}|{b}|{l}")).collect()] == [
        "a\ufffdb|ä\ufffd|\ufffd, z"
    ]


def test_values_of_every_type_become_strings(spark: SparkSession) -> None:
    df = spark.sql(
        """SELECT 7 AS i, 1.50BD AS d, true AS t, DATE'2026-01-02' AS day, array(1, NULL, 3) AS n,
        named_struct('city', 'Köln', 'zip', NULL) AS s, map('k', 'v"') AS m, array(array('a', ''), array()) AS nested,
        array(named_struct('x', 1)) AS structs, NULL AS v, CAST(map() AS map<string, string>) AS none"""
    )
    template = "{i}|{d}|{t}|{day}|{n}|{s}|{m}|{nested}|{structs}|{v}|{none}"

    made = with_text(df, parse_template(template)).collect()[0].text

    assert made == '7|1.50|true|2026-01-02|1, 3|{"city":"Köln"}|{"k":"v\\""}|a|{"x":1}'


def test_times_are_those_of_utc_whatever_the_session_shows(spark: SparkSession) -> None:
    times = ("2026-03-29 01:30:00Z", "2026-10-25 00:30:00.5Z", "1969-12-31 23:59:59.999999Z", "1890-01-01 00:00:00Z")
    made = []
    for zone in ("UTC", "Europe/Berlin", "America/New_York"):
        spark.conf.set("spark.sql.session.timeZone", zone)
        values = ", ".join(f"TIMESTAMP'{at}' AS t{n}" for n, at in enumerate(times))
        df = spark.sql(
            f"SELECT {values}, named_struct('at', TIMESTAMP'{times[0]}') AS s, array(TIMESTAMP'{times[1]}') AS a"
        )
        made.append(with_text(df, parse_template("{t0}|{t1}|{t2}|{t3}|{s}|{a}")).collect()[0].text)
    spark.conf.set("spark.sql.session.timeZone", "UTC")

    assert (
        made
        == [
            "2026-03-29 01:30:00|2026-10-25 00:30:00.5|1969-12-31 23:59:59.999999|1890-01-01 00:00:00|"
            '{"at":"2026-03-29T01:30:00.000Z"}|2026-10-25 00:30:00.5'
        ]
        * 3
    )


def test_a_value_at_the_end_of_its_type_is_text_as_any_other(spark: SparkSession) -> None:
    micros = (2**63 - 1, -(2**63), 1_700_000_000_000_000_000)  # the last one: milliseconds that were read as seconds
    times = ", ".join(f"timestamp_micros({at}L)" for at in micros)
    df = spark.sql(
        f"""SELECT array({times}) AS ts, named_struct('at', timestamp_micros({micros[2]}L)) AS s,
        timestamp_ntz'+294247-01-10 04:00:54' AS n, DATE'+5881580-07-11' AS day, INTERVAL '106751991' DAY AS i,
        CAST('NaN' AS double) AS d, array(CAST('-Infinity' AS double)) AS inf, repeat('9', 38)::decimal(38, 0) AS big,
        map(timestamp_micros({micros[2]}L), CAST('Infinity' AS double)) AS m, to_variant_object(array(1, 2)) AS v,
        -9223372036854775808L AS l"""
    )
    template = "{ts}|{s}|{n}|{day}|{i}|{d}|{inf}|{big}|{m}|{v}|{l}"

    made = with_text(df, parse_template(template)).select("text").collect()[0].text.split("|")

    assert made[0] == "+294247-01-10 04:00:54.775807, -290308-12-21 19:59:05.224192, +55840-11-08 22:13:20"
    assert made[5:8] == ["NaN", "-Infinity", "9" * 38]
    assert all(made), made


def test_a_variant_is_read_as_the_value_that_it_holds(spark: SparkSession) -> None:
    values = {
        "null": None,
        '"Makes \\"x\\"\\n"': 'Makes "x"',
        "7": "7",
        '{"a": null}': '{"a":null}',
        '""': None,
        "{}": None,
    }
    rows = spark.createDataFrame([(text,) for text in values], "json string").selectExpr("parse_json(json) AS v")

    made = with_text(rows, parse_template("{v}")).select("text").collect()

    assert [row["text"] for row in made] == list(values.values())


@pytest.mark.parametrize("value", ["map(X'80', 1)", "array(named_struct('m', map(array(1), 1)))"])
def test_maps_with_keys_that_have_no_text_of_their_own_are_refused(spark: SparkSession, value: str) -> None:
    with pytest.raises(SourceError, match="column 'v' of the source holds maps with binary or nested keys"):
        with_text(spark.sql(f"SELECT {value} AS v"), parse_template("{v}"))


def test_columns_with_odd_names_are_found(spark: SparkSession) -> None:
    df = spark.createDataFrame([("1", "2", "3", "4")], "`a.b` string, `c``d` string, `e f: \"g'` string, `社` string")

    assert with_text(df, parse_template("{a.b}{c`d}{e f: \"g'}{社}")).collect()[0].text == "1234"


def test_literals_are_not_interpreted(spark: SparkSession) -> None:
    assert texts(spark, "It's 100% \\n $1 {{x}}: {a}", [("v",)], "a string") == ["It's 100% \\n $1 {x}: v"]


def test_a_field_can_have_another_column_or_none(spark: SparkSession) -> None:
    df = spark.createDataFrame([("x", "y")], "a string, other string")

    made = with_text(df, parse_template("A: {a}. B: {b}. C: {c}"), {"b": "other", "c": None}).collect()[0].text

    assert made == "A: x. B: y"


def test_a_source_column_named_text_is_read_and_then_replaced(spark: SparkSession) -> None:
    made = with_text(spark.createDataFrame([("x",)], "text string"), parse_template("T: {text}"))

    assert made.columns == ["text", "text_hash"]
    assert made.collect()[0].text == "T: x"


def test_all_missing_columns_are_named_at_once(spark: SparkSession) -> None:
    df = spark.createDataFrame([("x",)], "name string")

    with pytest.raises(SourceError) as error:
        with_text(df, parse_template("{nme} {city} {name}"), {"city": "town"})

    assert error.value.errors == [
        "the source has no column 'nme'; did you mean 'name'?",
        "'city': the source has no column 'town'",
        "columns of the source: 'name'",
    ]


def test_a_mapping_for_an_unknown_field_is_refused(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match="'b' is not a template field"):
        with_text(spark.createDataFrame([("x",)], "a string"), parse_template("{a}"), {"b": "a"})


def test_the_hash_is_that_of_the_utf8_text(spark: SparkSession) -> None:
    df = spark.createDataFrame([("Zoë 🙂",), (None,)], "a string").coalesce(1)

    first, second = with_text(df, parse_template("{a}!")).collect()

    assert first.text_hash == hashlib.sha256("Zoë 🙂!".encode()).hexdigest()
    assert second.text_hash is None
