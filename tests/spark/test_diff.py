"""Change types of keys, on a few literal rows."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ptec_udf.nightly.diff import classify_rows, count_change_types, hash_by_key
from ptec_udf.warehouse.corrections import corrections_by_company
from ptec_udf.warehouse.schemas import SCHEMAS


def sha(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def hashes(spark: SparkSession) -> Any:
    def make(*rows: tuple[str | None, str | None]) -> DataFrame:
        return hash_by_key(spark.createDataFrame(list(rows), "id string, text string"), "id", F.col("text"))

    return make


@pytest.fixture
def change_types(spark: SparkSession) -> Any:
    def classify(source: DataFrame, *scores: dict[str, Any], **options: Any) -> dict[str, str]:
        names, common = SCHEMAS["scores"].names, {"status": "ok", "source_id": "crm", "logits_id": "one"}
        rows = [tuple((common | row).get(name) for name in names) for row in scores]
        found = classify_rows(
            source,
            spark.createDataFrame(rows, SCHEMAS["scores"]),
            corrections_by_company(spark.createDataFrame([], SCHEMAS["corrections"]), ["media"]),
            **{"source_id": "crm", "logits_id": "one", "retry_errors": False, **options},
        )
        return {row["key"]: row["change_type"] for row in found.collect()}

    return classify


class TestHashByKey:
    def test_one_row_a_key(self, hashes: Any) -> None:
        rows = {row["key"]: row for row in hashes(("a", "x"), ("a", "x"), ("b", None), (None, "y")).collect()}
        assert {key: row["n_rows"] for key, row in rows.items()} == {"a": 2, "b": 1, None: 1}
        assert all(row["ambiguous_hash"] is None for row in rows.values())

    def test_several_texts_have_a_stable_hash_of_their_own(self, hashes: Any) -> None:
        one, again = (hashes(*rows).first() for rows in ((("a", "x"), ("a", "y")), (("a", "y"), ("a", "x"))))
        assert one["ambiguous_hash"] == again["ambiguous_hash"] is not None
        assert hashes(("a", "x"), ("a", "z")).first()["ambiguous_hash"] != one["ambiguous_hash"]

    def test_shuffles_no_text(self, hashes: Any) -> None:
        plan = hashes(("a", "x"))._jdf.queryExecution().executedPlan().toString()
        assert "HashAggregate" in plan
        assert "SortAggregate" not in plan


class TestClassifyRows:
    def test_each_change_type(self, hashes: Any, change_types: Any) -> None:
        source = hashes(("new", "n"), ("text", "2"), ("same", "s"), ("blank", None), ("back", "b"), (None, "x"))
        scores = [
            {"key": "text", "text_hash": sha("1")},
            {"key": "same", "text_hash": sha("s")},
            {"key": "blank", "text_hash": None, "status": "empty"},
            {"key": "back", "text_hash": sha("b"), "removed_in": 3},
            {"key": "left", "text_hash": sha("l")},
            {"key": "left long ago", "text_hash": sha("l"), "removed_in": 3},
        ]
        expected = {"new": "new", "text": "text", "same": "same", "blank": "same", "back": "new", "left": "removed"}
        assert change_types(source, *scores) == expected | {None: "no_key"}

    def test_errors_are_retried_on_request(self, hashes: Any, change_types: Any) -> None:
        failed = {"key": "a", "text_hash": sha("x"), "status": "error"}
        assert change_types(hashes(("a", "x")), failed) == {"a": "same"}
        assert change_types(hashes(("a", "x")), failed, retry_errors=True) == {"a": "retry"}


def test_rows_without_a_key_are_counted_as_rows(spark: SparkSession) -> None:
    rows = [("a", 2, "new"), ("b", 1, "new"), (None, 5, "no_key"), ("c", None, "removed")]
    frame = spark.createDataFrame(rows, "key string, n_rows long, change_type string")
    assert count_change_types(frame) == {"new": 2, "no_key": 5, "removed": 1}
