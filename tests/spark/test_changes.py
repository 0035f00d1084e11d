"""Why companies entered and left labels, on a few literal rows."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from ptec_udf.nightly.changes import ModelLabels, derive_changes
from ptec_udf.warehouse.schemas import SCHEMAS

Score = dict[str, Any]

OLD = ModelLabels("m1", ["media", "energy"], [0.5, 0.5])
NEW = ModelLabels("m2", ["energy", "travel"], [0.25, 0.5])


@pytest.fixture
def changes(spark: SparkSession) -> Any:
    def derive(
        before: list[dict[str, Any]], after: list[dict[str, Any]], new: ModelLabels = OLD, **options: Any
    ) -> set:
        names = SCHEMAS["scores"].names
        frames = [
            spark.createDataFrame(
                [tuple({"key": "a", **row}.get(name) for name in names) for row in rows], SCHEMAS["scores"]
            )
            for rows in (before, after)
        ]
        found = derive_changes(*frames, old=OLD, new=new, **options).collect()
        return {(row["key"], row["label"], row["entered"], row["reason"]) for row in found}

    return derive


def row(
    text: str, labels: list[str], probabilities: tuple[float, ...] | None = (0.5, 0.5), **more: Any
) -> dict[str, Any]:
    facts = {"text_hash": text, "labels": labels, "logits_id": "one"}
    return facts | {"probabilities": probabilities and list(probabilities), **more}


class TestSameModel:
    def test_a_score_after_an_error_is_new(self, changes: Any) -> None:
        assert changes([row("t", [], None)], [row("t", ["media"])]) == {("a", "media", True, "new")}

    def test_correction_comes_first_and_is_of_its_label(self, changes: Any) -> None:
        found = changes([row("t", ["energy"])], [row("u", ["media"], corrected=[("media", True)])])
        assert found == {("a", "media", True, "correction"), ("a", "energy", False, "text")}

    def test_equal_labels_are_no_change(self, changes: Any) -> None:
        assert changes([row("t", ["media", "energy"])], [row("u", ["energy", "media"])]) == set()


class TestPromotion:
    def test_another_template_is_no_change_of_the_text(self, changes: Any) -> None:
        sides = [row("t", [])], [row("u", ["energy"], logits_id="two")]
        found = changes(*sides, NEW, same_template=False)
        assert found == {("a", "energy", True, "model")}
        found = changes(*sides, NEW)
        assert found == {("a", "energy", True, "text")}
