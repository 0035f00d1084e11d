"""Rows of an extract that are not those of its record are refused, with all that is wrong with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptec_udf.errors import SourceError
from tests.tiny import tiny_extract
from training.data.dataset import read_split, read_splits
from training.data.folder import DATA, RECORD, read_extract_record

Rows = list[dict[str, Any]]


@pytest.fixture
def extract(tmp_path: Path) -> Path:
    """A whole extract of 80 rows, 64 of them to train from."""
    return tiny_extract(tmp_path / "extract", n=80)


def damage(extract: Path, change: Callable[[Rows], Any]) -> None:
    """Write the rows anew as a change leaves them; the record stays as it is."""
    file = extract / DATA / "part-0.parquet"
    pq.write_table(pa.Table.from_pylist(change(pq.read_table(file).to_pylist())), file)


def without(rows: Rows, column: str) -> Rows:
    """Take a column away."""
    return [{name: value for name, value in row.items() if name != column} for row in rows]


def with_first(rows: Rows, **values: Any) -> Rows:
    """Change values of the first row."""
    return [rows[0] | values, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda rows: rows[:-1], ["64 rows of train, there are 63"]),
        (lambda rows: rows + rows[2:3], ["1 rows have one that stands there already", "there are 65"]),
        (lambda rows: with_first(rows, split="other"), ["8 rows of dev, there are 7", "0 rows of other, there are 1"]),
        (lambda rows: with_first(rows, labels=["none such"]), ["how many rows have each label"]),
        (lambda rows: with_first(rows, labels=[None]), ["how many rows have each label"]),
        (lambda rows: with_first(rows, text=None), ["column 'text' must have no nulls, has 1"]),
        (lambda rows: with_first(rows, text_hash="x"), ["must hold SHA-256"]),
        (lambda rows: with_first(rows, text="changed"), ["must be that of 'text', is another one in 1 rows"]),
        (lambda rows: without(rows, "text_hash"), ["must be Parquet with the columns of an extract"]),
        (lambda rows: with_first(rows, text=None, key=None), ["column 'key' must", "column 'text' must"]),
    ],
)
def test_rows_that_are_not_the_record_s_are_refused(extract: Path, change: Callable[[Rows], Any], faults: list) -> None:
    damage(extract, change)
    for read in (lambda: read_splits(extract, validation_share=0.2), lambda: read_split(extract, "dev")):
        with pytest.raises(SourceError, match="run ptec extract again") as caught:
            read()
        assert all(fault in str(caught.value) for fault in faults)


def test_rows_that_are_there_twice_or_cannot_be_read_are_refused(extract: Path) -> None:
    part = extract / DATA / "part-0.parquet"
    shutil.copy(part, part.with_name("part-1.parquet"))
    with pytest.raises(SourceError, match="80 rows have one that stands there already"):
        read_splits(extract, validation_share=0.2)
    part.write_bytes(part.read_bytes()[:500])
    with pytest.raises(SourceError, match="reading ended with ArrowInvalid"):
        read_splits(extract, validation_share=0.2)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"labels": ["a"]}, "does not say what an extract's does"),
        ({"labels": []}, "does not say what an extract's does"),
        ({"counts": {}}, "does not say what an extract's does"),
    ],
)
def test_a_record_of_wrong_form_is_refused(extract: Path, change: dict[str, Any], rule: str) -> None:
    (extract / RECORD).write_text(json.dumps(read_extract_record(extract) | change))
    with pytest.raises(SourceError, match=rule):
        read_extract_record(extract)


def test_a_label_that_is_named_twice_is_refused(extract: Path) -> None:
    record = read_extract_record(extract)
    (extract / RECORD).write_text(json.dumps(record | {"labels": [*record["labels"], record["labels"][0]]}))
    with pytest.raises(SourceError, match="must name each label once, does so 6 times for 5"):
        read_splits(extract, validation_share=0.2)
