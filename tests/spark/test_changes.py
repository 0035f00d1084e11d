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
    def test_new_and_removed(self, changes: Any) -> None:
        assert changes([], [row("t", ["media"])]) == {("a", "media", True, "new")}
        removed = row("t", ["media"], removed_in=3)
        assert changes([row("t", ["media"])], [removed]) == {("a", "media", False, "removed")}
        assert changes([removed], [row("t", ["media"])]) == {("a", "media", True, "new")}

    def test_text(self, changes: Any) -> None:
        found = changes([row("t", ["media"])], [row("u", ["energy"])])
        assert found == {("a", "media", False, "text"), ("a", "energy", True, "text")}

    def test_a_score_after_an_error_is_new(self, changes: Any) -> None:
        assert changes([row("t", [], None)], [row("t", ["media"])]) == {("a", "media", True, "new")}

    def test_correction_comes_first_and_is_of_its_label(self, changes: Any) -> None:
        found = changes([row("t", ["energy"])], [row("u", ["media"], corrected=[("media", True)])])
        assert found == {("a", "media", True, "correction"), ("a", "energy", False, "text")}

    def test_equal_labels_are_no_change(self, changes: Any) -> None:
        assert changes([row("t", ["media", "energy"])], [row("u", ["energy", "media"])]) == set()


class TestPromotion:
    def test_other_logits(self, changes: Any) -> None:
        found = changes([row("t", ["media"])], [row("t", ["travel"], logits_id="two")], NEW)
        assert found == {("a", "media", False, "model"), ("a", "travel", True, "model")}

    def test_same_logits_are_a_matter_of_thresholds(self, changes: Any) -> None:
        assert changes([row("t", [])], [row("t", ["energy"])], NEW) == {("a", "energy", True, "threshold")}

    def test_another_template_is_no_change_of_the_text(self, changes: Any) -> None:
        sides = [row("t", [])], [row("u", ["energy"], logits_id="two")]
        found = changes(*sides, NEW, same_template=False)
        assert found == {("a", "energy", True, "model")}
        found = changes(*sides, NEW)
        assert found == {("a", "energy", True, "text")}


def test_both_sides_probabilities_and_thresholds(spark: SparkSession) -> None:
    names = SCHEMAS["scores"].names
    sides = [row("t", ["media"], (0.75, 0.25)), row("t", ["energy"], (0.3125, 0.125))]
    before, after = (
        spark.createDataFrame([tuple({"key": "a", **one}.get(name) for name in names)], SCHEMAS["scores"])
        for one in sides
    )
    found = {one["label"]: one for one in derive_changes(before, after, old=OLD, new=NEW).collect()}
    numbers = ("old_probability", "new_probability", "old_threshold", "new_threshold")
    assert [found["energy"][name] for name in numbers] == [0.25, 0.3125, 0.5, 0.25]
    assert [found["media"][name] for name in numbers] == [0.75, None, 0.5, None]
