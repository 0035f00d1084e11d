"""Auxiliary labels of an extract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from ptec_udf.errors import SourceError
from tests.spark.test_extract import PLAIN, SCHEMA, FixedSource, config, written
from training.data.extract import extract


def test_auxiliary_labels_stand_in_a_column_of_their_own(spark: SparkSession, tmp_path: Path) -> None:
    """Null where a row has none, so that it is not learned there; the fingerprint covers them."""
    tags = {1: ["b2b", "rare"], 2: [" b2b"], 3: ["b2b"], 4: ["b2b"], 5: []}

    def extracted(out: Path, tags: dict[int, list[str]]) -> dict[str, Any]:
        df = spark.createDataFrame([(*row, tags[row[0]]) for row in PLAIN], f"{SCHEMA}, tags array<string>")
        labels = {"auxiliary": {"column": "tags", "min_positives": 2}}
        return extract(spark, config(out, labels=labels), cast(Any, FixedSource(df)))

    record = extracted(tmp_path / "x", tags)

    rows = written(spark, tmp_path / "x")
    assert {key: row.auxiliary for key, row in rows.items()} == {
        "1": ["b2b"],
        "2": ["b2b"],
        "3": ["b2b"],
        "4": ["b2b"],
        "5": None,
    }
    assert rows["1"].labels == ["Health", "Tech"]
    assert record["auxiliary"] == [{"name": "b2b", "train": 2, "dev": 1, "test": 0}]  # 4 has no labels to learn beside
    assert record["filters"]["auxiliary"] == {"column": "tags", "delimiter": None, "min_positives": 2}
    assert extracted(tmp_path / "y", tags | {3: ["b2c"]})["fingerprint"] != record["fingerprint"]
    with pytest.raises(SourceError, match=r"at least one auxiliary label must have 2 training companies .* of 1 none"):
        extracted(tmp_path / "z", {key: ["b2b"] for key in tags} | {1: [], 2: []})
