"""Analysts' corrections: written in plain SQL, applied by an extract, every row of them counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from ptec_training.data.extract import extract
from ptec_training.data.folder import read_extract_record
from ptec_udf.config import WarehouseConfig
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.test_extract import SCHEMA, FixedSource, config, written

pytestmark = pytest.mark.long

ROWS: list[tuple[Any, ...]] = [
    (1, "A", "a", ["Health", "Tech"], "train"),
    (2, "B", "b", ["Tech"], "train"),
    (3, "C", "c", [], "dev"),
    (4, "D", "d", None, "test"),
    (5, "E", "e", ["Health"], "test"),
    (6, None, None, ["Health"], "train"),
]


def run(warehouse: Warehouse, out: Path, *, corrections: bool = True, **labels: Any) -> dict[str, Any]:
    """Extract the rows with the warehouse's corrections; the record."""
    changes = {"warehouse": WarehouseConfig(database=warehouse.database), "corrections": corrections}
    settings = config(out, labels=labels).model_copy(update=changes)
    source = FixedSource(warehouse.spark.createDataFrame(ROWS, SCHEMA))
    return extract(warehouse.spark, settings, cast(Any, source))


def correct(warehouse: Warehouse, *values: str) -> None:
    """Write corrections as an analyst does: (key, label, is_true, who, at, why)."""
    warehouse.spark.sql(f"INSERT INTO {warehouse.name('corrections')} VALUES {', '.join(values)}")


def labels_of(warehouse: Warehouse, out: Path) -> dict[str, Any]:
    return {key: row.labels for key, row in written(warehouse.spark, out).items()}


def test_yes_adds_and_no_removes(warehouse: Warehouse, tmp_path: Path) -> None:
    correct(
        warehouse,
        "('2', ' Health ', true, current_user(), now(), 'runs clinics')",
        "('1', 'Tech', false, current_user(), now(), NULL)",
        "('3', 'Tech', true, NULL, now(), NULL)",
        "('5', 'Health', false, current_user(), now(), NULL)",
    )

    record = run(warehouse, tmp_path / "x", min_positives=2)

    # Counted after corrections: in train, Health has gained a company and Tech has lost one.
    assert record["labels"] == [{"name": "Health", "train": 2, "dev": 0, "test": 0}]
    assert record["dropped_labels"] == [
        {"name": "Tech", "train": 1, "dev": 1, "test": 0, "reason": "too few positives"}
    ]
    assert labels_of(warehouse, tmp_path / "x") == {"1": ["Health"], "2": ["Health"], "3": [], "4": None, "5": []}
    assert (record["corrections"]["counts"]["yes"], record["corrections"]["counts"]["no"]) == (2, 2)
    without = run(warehouse, tmp_path / "without", min_positives=2, corrections=False)
    assert (without["corrections"], [label["name"] for label in without["labels"]]) == (None, ["Tech"])
    assert without["fingerprint"] != record["fingerprint"]


def test_newest_counts_and_all_are_counted(
    warehouse: Warehouse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    correct(
        warehouse,
        "('2', 'Health', true, 'a', TIMESTAMP '2026-01-02', NULL)",
        "('2', 'Health', false, 'b', TIMESTAMP '2026-01-01', 'older')",
        "('1', 'Tech', true, 'b', TIMESTAMP '2026-01-01', 'of one moment, the yes counts')",
        "('1', 'Tech', false, 'a', TIMESTAMP '2026-01-01', NULL)",
        "('4', 'Tech', true, 'a', now(), 'its other labels are unknown')",
        "('6', 'Health', false, 'a', now(), 'has no text')",
        "('9', 'Health', true, 'a', now(), 'not in the source')",
        "('1', 'Helth', true, 'a', now(), 'misspelt')",
        "(NULL, 'Health', true, 'a', now(), NULL)",
        "('1', '', true, 'a', now(), NULL)",
        "('1', 'Health', NULL, 'a', now(), NULL)",
    )

    record = run(warehouse, tmp_path / "x")

    assert record["corrections"] == {
        "table": f"{warehouse.database}.corrections",
        "version": 1,
        "counts": {
            "read": 11,
            "yes": 1,
            "no": 0,
            "without_effect": 1,
            "unlabelled": 1,
            "unknown_key": 2,
            "unknown_label": 1,
            "superseded": 2,
            "incomplete": 3,
        },
    }
    assert read_extract_record(tmp_path / "x") == record
    assert labels_of(warehouse, tmp_path / "x")["2"] == ["Health", "Tech"]
    assert labels_of(warehouse, tmp_path / "x")["4"] is None
    assert "'Helth' (did you mean 'Health'?)" in capsys.readouterr().err

    correct(warehouse, "('1', 'Tech', true, 'a', now(), 'as it is')", "('9', 'Tech', true, 'a', now(), NULL)")
    again = run(warehouse, tmp_path / "again")

    assert (again["fingerprint"], again["corrections"]["version"]) == (record["fingerprint"], 2)
