"""Extracts: which rows and labels are kept, how they are split and counted, and what is left on failure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import DataFrame, SparkSession

from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.text.template import parse_template
from tests.spark.texts import with_text
from training.data.config import ExtractConfig
from training.data.extract import extract
from training.data.folder import read_extract_record

SCHEMA = "id bigint, name string, about string, industries array<string>, part string"
TEMPLATE = "Name: {name}. About: {about}"


@dataclass(frozen=True)
class FixedSource:
    """A pinned source whose rows are given."""

    df: DataFrame
    name: str = "crm.companies"
    source_id: str = "source-1"
    version: int = 3

    def read(self, spark: SparkSession) -> DataFrame:
        """Give the rows."""
        return self.df


def config(out: Path | str, **changes: Any) -> ExtractConfig:
    """Configuration whose sections are merged with ``changes``."""
    values: dict[str, Any] = {
        "source": {"table": "crm.companies", "key": "id"},
        "template": TEMPLATE,
        "labels": {"column": "industries", "min_positives": 1},
        "split": {"column": "part"},
        "out": str(out),
    }
    for section, change in changes.items():
        values[section] = values[section] | change if isinstance(change, dict) else change
    return ExtractConfig.model_validate(values)


def run(spark: SparkSession, rows: list[tuple[Any, ...]], settings: ExtractConfig) -> dict[str, Any]:
    """Extract from the rows; the record."""
    return extract(spark, settings, cast(Any, FixedSource(spark.createDataFrame(rows, SCHEMA))))


def written(spark: SparkSession, out: Path) -> dict[str, Any]:
    """Rows of an extract by key."""
    return {row.key: row for row in spark.read.parquet(str(out / "data")).collect()}


PLAIN: list[tuple[Any, ...]] = [
    (1, "A", "a", ["Health", "Tech"], "train"),
    (2, "B", "b", [" Tech ", "", None, "Tech"], "Train "),
    (3, "C", "c", [], "dev"),
    (4, "D", "d", None, "test"),
    (5, "E", "e", ["Health"], "test"),
]


def test_rows_have_keys_texts_hashes_labels_and_splits(spark: SparkSession, tmp_path: Path) -> None:
    run(spark, [*PLAIN, (1, "A", "a", None, "train")], config(tmp_path / "x"))  # of equal texts the labelled one stays

    rows = written(spark, tmp_path / "x")
    assert {key: (row.labels, row.split) for key, row in rows.items()} == {
        "1": (["Health", "Tech"], "train"),
        "2": (["Tech"], "train"),
        "3": ([], "dev"),
        "4": (None, "test"),
        "5": (["Health"], "test"),
    }
    assert rows["1"].text == "Name: A. About: a"
    assert rows["1"].text_hash == hashlib.sha256(b"Name: A. About: a").hexdigest()


def test_the_record_says_what_the_extract_is(spark: SparkSession, tmp_path: Path) -> None:
    record = run(spark, PLAIN, config(tmp_path / "x"))

    assert read_extract_record(tmp_path / "x") == record
    assert (record["name"], record["source_id"], record["version"]) == ("crm.companies", "source-1", 3)
    assert record["template"] == TEMPLATE
    assert record["columns"] == {"key": "id", "labels": "industries", "split": "part"}
    assert record["filters"] == {"delimiter": None, "exclude": [], "min_positives": 1, "dev": 0.1, "test": 0.1}
    assert record["labels"] == [
        {"name": "Health", "train": 1, "dev": 0, "test": 1},
        {"name": "Tech", "train": 2, "dev": 0, "test": 0},
    ]
    assert record["counts"]["written"] == {"train": 2, "dev": 1, "test": 2}
    assert record["counts"]["unlabelled"] == 1


def test_unusable_rows_are_dropped_and_counted(spark: SparkSession, tmp_path: Path) -> None:
    extra = [
        (None, "F", "f", ["Tech"], "train"),
        (None, None, None, ["Tech"], "train"),
        (6, None, " ", ["Tech"], "train"),
        (1, "A", "another text", ["Tech"], "train"),
        (1, None, None, ["Tech"], "train"),
    ]

    record = run(spark, PLAIN + extra, config(tmp_path / "x"))

    counts = record["counts"]
    assert counts["read"] == 10
    assert (counts["null_keys"], counts["without_text"], counts["duplicate_keys"]) == (2, 2, 1)
    assert sum(counts["written"].values()) == 5
    first = min(
        ("Name: A. About: a", "Name: A. About: another text"), key=lambda t: hashlib.sha256(t.encode()).digest()
    )
    assert written(spark, tmp_path / "x")["1"].text == first


def test_equal_texts_stay_out_of_train_when_dev_or_test_has_them(spark: SparkSession, tmp_path: Path) -> None:
    extra = [
        (11, "Same", "s", ["Tech"], "train"),
        (12, "Same", "s", ["Tech"], "train"),
        (13, "Same", "s", ["Tech"], "dev"),
        (14, "Other", "o", ["Tech"], "dev"),
        (15, "Other", "o", ["Tech"], "test"),
        (16, "Twin", "t", ["Tech"], "train"),
        (17, "Twin", "t", ["Tech"], "train"),
    ]

    record = run(spark, PLAIN + extra, config(tmp_path / "x"))

    assert (record["counts"]["cross_split_texts"], record["counts"]["cross_split_rows"]) == (2, 2)
    assert {"13", "14", "15", "16", "17"} <= written(spark, tmp_path / "x").keys()
    assert not {"11", "12"} & written(spark, tmp_path / "x").keys()
    assert record["labels"][1] == {"name": "Tech", "train": 4, "dev": 2, "test": 1}


def test_a_split_by_hash_keeps_its_shares_and_equal_texts_together(spark: SparkSession, tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [(i, f"name {i // 2}", "x", ["Tech"], None) for i in range(2000)]

    record = run(spark, rows, config(tmp_path / "x", split={"column": None, "dev": 0.2, "test": 0.1}))

    counts = record["counts"]["written"]
    assert 300 < counts["dev"] < 500
    assert 120 < counts["test"] < 280
    splits: dict[str, set[str]] = {}
    for row in written(spark, tmp_path / "x").values():
        splits.setdefault(row.text, set()).add(row.split)
        share = int(hashlib.sha256(f"split:{row.text}".encode()).hexdigest()[:13], 16) / 16**13
        assert row.split == ("test" if share < 0.1 else "dev" if share < 0.1 + 0.2 else "train")
    assert {len(sides) for sides in splits.values()} == {1}


def test_rare_and_excluded_labels_are_dropped_and_listed(spark: SparkSession, tmp_path: Path) -> None:
    rows = [*PLAIN, (6, "F", "f", ["Rare", "Tech", "Agro"], "dev"), (7, "G", "g", ["Agro", "Health"], "train")]

    record = run(spark, rows, config(tmp_path / "x", labels={"min_positives": 2, "exclude": ["Tech"]}))

    assert [label["name"] for label in record["labels"]] == ["Health"]
    assert record["dropped_labels"] == [
        {"name": "Agro", "train": 1, "dev": 1, "test": 0, "reason": "too few positives"},
        {"name": "Rare", "train": 0, "dev": 1, "test": 0, "reason": "too few positives"},
        {"name": "Tech", "train": 2, "dev": 1, "test": 0, "reason": "excluded"},
    ]
    assert written(spark, tmp_path / "x")["6"].labels == []
    assert written(spark, tmp_path / "x")["4"].labels is None


def test_an_excluded_label_must_occur(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        run(spark, PLAIN, config(tmp_path / "x", labels={"exclude": ["Helth", "Zzz"]}))

    assert error.value.errors == [
        "labels.exclude: no company has the label 'Helth'; did you mean 'Health'?",
        "labels.exclude: no company has the label 'Zzz'; remove it or correct its spelling",
    ]


def test_delimited_labels_are_split_on_the_literal_delimiter(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(1, "A", "x|y. z | x", "train"), (2, "B", "", "train"), (3, "C", None, "train")]
    df = spark.createDataFrame(rows, "id int, name string, industries string, part string")
    settings = config(tmp_path / "x", template="{name}", labels={"delimiter": "|"})

    extract(spark, settings, cast(Any, FixedSource(df)))

    assert {k: row.labels for k, row in written(spark, tmp_path / "x").items()} == {
        "1": ["x", "y. z"],
        "2": [],
        "3": None,
    }


def test_a_label_column_of_the_wrong_type_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="'name' must be an array, was string"):
        run(spark, PLAIN, config(tmp_path / "x", labels={"column": "name"}))
    rows = FixedSource(spark.createDataFrame(PLAIN, SCHEMA).selectExpr("*", "array(array(name)) AS nested"))
    with pytest.raises(SourceError, match="'nested' must be an array of text, numbers"):
        extract(spark, config(tmp_path / "x", labels={"column": "nested"}), cast(Any, rows))
    with pytest.raises(SourceError, match="must be a string, as labels"):
        run(spark, PLAIN, config(tmp_path / "x", labels={"delimiter": ","}))


def test_all_missing_columns_are_named_at_once(spark: SparkSession, tmp_path: Path) -> None:
    settings = config(tmp_path / "x", template="{nome}", labels={"column": "labels"}, source={"key": "uid"})

    with pytest.raises(SourceError) as error:
        run(spark, PLAIN, settings)

    assert [fault.partition(";")[0] for fault in error.value.errors[:3]] == [
        "'source.key': the source has no column 'uid'",
        "'labels.column': the source has no column 'labels'",
        "the source has no column 'nome'",
    ]


def test_unknown_split_values_are_named_with_counts_and_long_ones_hidden(spark: SparkSession, tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [
        (6, "F", "f", [], "valid"),
        (7, "G", "g", [], "valid"),
        (8, "H", "h", [], "secret " * 9),
        (9, "I", "i", [], None),
    ]

    with pytest.raises(SourceError) as error:
        run(spark, PLAIN + rows, config(tmp_path / "x"))

    assert "'valid' (2 rows)" in str(error.value)
    assert "null (1 rows)" in str(error.value)
    assert "secret" not in str(error.value)
    rows = [(10 + at, "J", "j", [], f"short {at}") for at in range(11)]
    with pytest.raises(SourceError, match=r"has 11 other values in 11 rows$"):
        run(spark, PLAIN + rows, config(tmp_path / "x"))


def test_without_labels_or_train_rows_nothing_is_written(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="at least one label must have 9 training companies"):
        run(spark, PLAIN, config(tmp_path / "x", labels={"min_positives": 9}))
    with pytest.raises(SourceError, match="train must have rows"):
        run(spark, PLAIN[2:], config(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_the_fingerprint_follows_content_and_not_order(spark: SparkSession, tmp_path: Path) -> None:
    first = run(spark, PLAIN, config(tmp_path / "a"))["fingerprint"]
    changed = [*PLAIN[:-1], (5, "E", "e", ["Tech"], "test")]

    assert run(spark, PLAIN[::-1], config(tmp_path / "b"))["fingerprint"] == first
    assert run(spark, changed, config(tmp_path / "c"))["fingerprint"] != first


def test_training_and_scoring_make_the_same_text_of_a_row(spark: SparkSession, tmp_path: Path) -> None:
    rows = [(1, "  Zoë\t& Söhne ", "\u200b", ["Tech"], "train"), (2, "🙂 {x}", "l\u2028m", ["Tech"], "train")]
    run(spark, rows, config(tmp_path / "x"))

    scored = with_text(spark.createDataFrame(rows, SCHEMA), parse_template(TEMPLATE)).collect()

    trained = written(spark, tmp_path / "x")
    expected = {"1": "Name: Zoë & Söhne", "2": "Name: 🙂 {x}. About: l m"}
    assert {str(row.id): row.text for row in scored} == {key: row.text for key, row in trained.items()} == expected
    for row in scored:
        assert row.text_hash == trained[str(row.id)].text_hash == hashlib.sha256(row.text.encode()).hexdigest()
