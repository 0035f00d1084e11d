"""Extracts: which rows and labels are kept, how they are split and counted, and that a failure leaves nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from ptec_training.data.config import ExtractConfig
from ptec_training.data.extract import extract
from ptec_training.data.folder import read_extract_record
from ptec_training.data.frame import extract_frame
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.text.template import parse_template
from tests.hostile import hostile_rows
from tests.spark.texts import with_text

SCHEMA = "id bigint, name string, about string, industries array<string>, part string"
TEMPLATE = "Name: {name}. About: {about}"

Record = dict[str, Any]


@dataclass(frozen=True)
class FixedSource:
    """A pinned source with fixed rows."""

    df: DataFrame
    name: str = "crm.companies"
    source_id: str = "source-1"
    version: int = 3

    def read(self, spark: SparkSession) -> DataFrame:
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


def run(spark: SparkSession, rows: list[tuple[Any, ...]] | DataFrame, settings: ExtractConfig) -> Record:
    """Extract from the rows; return the record."""
    df = rows if isinstance(rows, DataFrame) else spark.createDataFrame(rows, SCHEMA)
    return extract(spark, settings, cast(Any, FixedSource(df)))


def written(spark: SparkSession, out: Path) -> dict[str, Any]:
    """Rows of an extract by key."""
    return {row.key: row for row in spark.read.parquet(str(out / "data")).collect()}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


PLAIN: list[tuple[Any, ...]] = [
    (1, "A", "a", ["Health", "Tech"], "train"),
    (2, "B", "b", [" Tech ", "", None, "Tech"], "Train "),
    (3, "C", "c", [], "dev"),
    (4, "D", "d", None, "test"),
    (5, "E", "e", ["Health"], "test"),
]


class TestRows:
    def test_have_text_labels_and_split(self, spark: SparkSession, tmp_path: Path) -> None:
        record = run(spark, PLAIN, config(tmp_path / "x"))
        rows = written(spark, tmp_path / "x")
        assert {key: (row.labels, row.split) for key, row in rows.items()} == {
            "1": (["Health", "Tech"], "train"),
            "2": (["Tech"], "train"),
            "3": ([], "dev"),
            "4": (None, "test"),
            "5": (["Health"], "test"),
        }
        assert (rows["1"].text, rows["1"].text_hash) == ("Name: A. About: a", sha256("Name: A. About: a"))
        assert read_extract_record(tmp_path / "x") == record
        assert (record["name"], record["source_id"], record["version"]) == ("crm.companies", "source-1", 3)
        assert record["template"] == TEMPLATE
        assert record["settings"]["labels"]["column"] == "industries"
        assert record["counts"]["written"] == {"train": 2, "dev": 1, "test": 2}
        assert record["counts"]["unlabelled"] == 1

    def test_unusable_are_dropped_and_counted(self, spark: SparkSession, tmp_path: Path) -> None:
        extra = [
            (None, "F", "f", ["Tech"], "train"),
            (None, None, None, ["Tech"], "train"),
            (6, None, " ", ["Tech"], "train"),
            (1, "A", "another text", ["Tech"], "train"),
            (1, None, None, ["Tech"], "train"),
            (5, "E", "e", None, "test"),
        ]
        counts = run(spark, PLAIN + extra, config(tmp_path / "x"))["counts"]
        assert (counts["read"], counts["null_key"], counts["without_text"], counts["duplicate_key"]) == (11, 2, 2, 2)
        rows = written(spark, tmp_path / "x")
        assert rows["1"].text == min("Name: A. About: a", "Name: A. About: another text", key=sha256)
        assert rows["5"].labels == ["Health"]  # of equal texts the labelled one stays

    def test_text_of_dev_or_test_leaves_train(self, spark: SparkSession, tmp_path: Path) -> None:
        extra = [
            (11, "Same", "s", ["Tech"], "train"),
            (12, "Same", "s", ["Tech"], "train"),
            (13, "Same", "s", ["Tech"], "dev"),
            (16, "Twin", "t", ["Tech"], "train"),
            (17, "Twin", "t", ["Tech"], "train"),
        ]
        record = run(spark, PLAIN + extra, config(tmp_path / "x"))
        keys = written(spark, tmp_path / "x").keys()
        assert {"13", "16", "17"} <= keys
        assert not {"11", "12"} & keys
        assert record["counts"]["text_in_dev_or_test"] == 2
        assert record["labels"][1] == {"name": "Tech", "train": 4, "dev": 1, "test": 0}

    def test_split_by_hash_keeps_equal_texts_together(self, spark: SparkSession, tmp_path: Path) -> None:
        rows: list[tuple[Any, ...]] = [(i, f"name {i // 2}", "x", ["Tech"], None) for i in range(2000)]
        record = run(spark, rows, config(tmp_path / "x", split={"column": None, "dev": 0.2, "test": 0.1}))
        counts = record["counts"]["written"]
        assert (300 < counts["dev"] < 500, 120 < counts["test"] < 280) == (True, True)
        for row in written(spark, tmp_path / "x").values():
            share = int(sha256(f"split:{row.text}")[:13], 16) / 16**13
            assert row.split == ("test" if share < 0.1 else "dev" if share < 0.1 + 0.2 else "train")

    def test_have_the_text_of_scoring(self, spark: SparkSession, tmp_path: Path) -> None:
        rows = [(1, "  Zoë\t& Söhne ", "\u200b", ["Tech"], "train"), (2, "🙂 {x}", "l\u2028m", ["Tech"], "train")]
        run(spark, rows, config(tmp_path / "x"))
        scored = with_text(spark.createDataFrame(rows, SCHEMA), parse_template(TEMPLATE)).collect()
        trained = written(spark, tmp_path / "x")
        expected = {"1": "Name: Zoë & Söhne", "2": "Name: 🙂 {x}. About: l m"}
        assert {str(row.id): row.text for row in scored} == {key: row.text for key, row in trained.items()} == expected
        assert all(row.text_hash == trained[str(row.id)].text_hash == sha256(row.text) for row in scored)

    def test_decide_the_fingerprint_in_any_order(self, spark: SparkSession, tmp_path: Path) -> None:
        first = run(spark, PLAIN, config(tmp_path / "a"))["fingerprint"]
        assert run(spark, PLAIN[::-1], config(tmp_path / "b"))["fingerprint"] == first
        for at, labels in enumerate((["Tech"], None, [])):
            changed = [*PLAIN[:-1], (5, "E", "e", labels, "test")]
            assert run(spark, changed, config(tmp_path / str(at)))["fingerprint"] != first


class TestWithoutSpark:
    """ptec_training/data/frame.py writes the same extract."""

    @pytest.mark.parametrize("by_column", [True, False])
    def test_rows_and_record_are_equal(self, spark: SparkSession, tmp_path: Path, by_column: bool) -> None:
        hostile = [
            (at, name, about, ["Tech", "Ä\u200b", " "][: at % 4] if at % 5 else None, ["train", "Dev ", "test"][at % 3])
            for at, (_, name, about) in enumerate(hostile_rows(600, seed=2), start=10)
        ]
        rows = [*PLAIN, *hostile, *hostile[:9], (None, "F", "f", ["Tech"], "train"), (12, "A", "x", ["Tech"], "train")]
        settings = config(tmp_path / "spark", split={"column": "part" if by_column else None})
        expected = run(spark, rows, settings)
        frame = pd.DataFrame(rows, columns=["id", "name", "about", "industries", "part"], dtype=object)
        options = {"labels": settings.labels, "split": settings.split, "key": "id"}
        found = extract_frame(frame, tmp_path / "plain", name="crm.companies", template=TEMPLATE, **options)
        differ = {"source_id", "version", "created", "settings", "corrections"}
        assert {k: v for k, v in found.items() if k not in differ} == {
            k: v for k, v in expected.items() if k not in differ
        }
        assert written(spark, tmp_path / "plain") == written(spark, tmp_path / "spark")


class TestLabels:
    def test_rare_and_excluded_are_dropped_and_listed(self, spark: SparkSession, tmp_path: Path) -> None:
        rows = [*PLAIN, (6, "F", "f", ["Rare", "Tech", "Agro"], "dev"), (7, "G", "g", ["Agro", "Health"], "train")]
        record = run(spark, rows, config(tmp_path / "x", labels={"min_positives": 2, "exclude": ["Tech"]}))
        assert [label["name"] for label in record["labels"]] == ["Health"]
        assert record["dropped_labels"] == [
            {"name": "Agro", "train": 1, "dev": 1, "test": 0, "reason": "too few positives"},
            {"name": "Rare", "train": 0, "dev": 1, "test": 0, "reason": "too few positives"},
            {"name": "Tech", "train": 2, "dev": 1, "test": 0, "reason": "excluded"},
        ]
        assert written(spark, tmp_path / "x")["6"].labels == []

    def test_excluded_must_occur(self, spark: SparkSession, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as error:
            run(spark, PLAIN, config(tmp_path / "x", labels={"exclude": ["Helth", "Zzz"]}))
        assert error.value.errors == [
            "labels.exclude: no company has the label 'Helth'; did you mean 'Health'?",
            "labels.exclude: no company has the label 'Zzz'; remove it or correct its spelling",
        ]

    def test_are_split_on_the_literal_delimiter(self, spark: SparkSession, tmp_path: Path) -> None:
        rows = [(1, "A", "x|y. z | x", "train"), (2, "B", "", "train"), (3, "C", None, "train")]
        df = spark.createDataFrame(rows, "id int, name string, industries string, part string")
        run(spark, df, config(tmp_path / "x", template="{name}", labels={"delimiter": "|"}))
        labels = {key: row.labels for key, row in written(spark, tmp_path / "x").items()}
        assert labels == {"1": ["x", "y. z"], "2": [], "3": None}

    def test_of_a_wrong_type_are_refused(self, spark: SparkSession, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"'name' must be an array of text, .* was string"):
            run(spark, PLAIN, config(tmp_path / "x", labels={"column": "name"}))
        nested = spark.createDataFrame(PLAIN, SCHEMA).selectExpr("*", "array(array(name)) AS nested")
        with pytest.raises(SourceError, match="'nested' must be an array of text, numbers"):
            run(spark, nested, config(tmp_path / "x", labels={"column": "nested"}))
        with pytest.raises(SourceError, match="or a string with labels"):
            run(spark, PLAIN, config(tmp_path / "x", labels={"delimiter": ","}))


class TestErrors:
    def test_all_missing_columns_are_named(self, spark: SparkSession, tmp_path: Path) -> None:
        settings = config(tmp_path / "x", template="{nome}", labels={"column": "labels"}, source={"key": "uid"})
        with pytest.raises(SourceError) as error:
            run(spark, PLAIN, settings)
        assert [one.partition(";")[0] for one in error.value.errors[:3]] == [
            "'source.key': the source has no column 'uid'",
            "'labels.column': the source has no column 'labels'",
            "the source has no column 'nome'",
        ]

    def test_unknown_splits_are_named_but_no_text(self, spark: SparkSession, tmp_path: Path) -> None:
        values = ["valid", "valid", "secret " * 9, None]
        rows = [(6 + at, "F", "f", [], value) for at, value in enumerate(values)]
        with pytest.raises(SourceError) as error:
            run(spark, PLAIN + rows, config(tmp_path / "x"))
        assert "'valid' (2 rows)" in str(error.value)
        assert "None (1 rows)" in str(error.value)
        assert "secret" not in str(error.value)

    def test_leave_nothing_behind(self, spark: SparkSession, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="at least one label must have 9 training companies"):
            run(spark, PLAIN, config(tmp_path / "x", labels={"min_positives": 9}))
        with pytest.raises(SourceError, match="train must have rows"):
            run(spark, PLAIN[2:], config(tmp_path / "x"))
        assert list(tmp_path.iterdir()) == []
