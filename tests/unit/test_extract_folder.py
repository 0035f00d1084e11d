"""The folder of an extract: written whole, and refused when it does not match its record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptec_training.data.dataset import read_split, read_splits
from ptec_training.data.folder import DATA, RECORD, read_extract_record, write_extract
from ptec_udf.errors import ConfigError, SourceError
from tests.tiny import tiny_extract

Rows = list[dict[str, Any]]
CONFIG = ["source.table=crm.companies", "template='{name}'", "labels.column=industries", "out=extract"]


def with_first(rows: Rows, **values: Any) -> Rows:
    return [rows[0] | values, *rows[1:]]


class TestWriting:
    def test_interrupted_write_leaves_nothing(self, tmp_path: Path) -> None:
        def fail(uri: str) -> None:
            raise RuntimeError(uri)

        with pytest.raises(RuntimeError):
            write_extract(tmp_path / "x", False, {}, fail)
        assert list(tmp_path.iterdir()) == []

    def test_replaces_only_on_request(self, tmp_path: Path) -> None:
        (tmp_path / ".x.partial" / "data").mkdir(parents=True)  # of a killed run
        for version in (1, 2):
            write_extract(tmp_path / "x", True, {"version": version}, str)
        with pytest.raises(ConfigError, match="must be absent or empty"):
            write_extract(tmp_path / "x", False, {"version": 3}, str)
        assert json.loads((tmp_path / "x" / RECORD).read_text()) == {"version": 2}
        assert [path.name for path in tmp_path.iterdir()] == ["x"]

    def test_at_a_uri_writes_the_record_last(self, tmp_path: Path) -> None:
        def write(uri: str) -> None:
            assert list((tmp_path / "x").iterdir()) == []
            Path(uri.removeprefix("file://")).mkdir()

        for version in (1, 2):
            write_extract(f"file://{tmp_path}/x", True, {"version": version}, write)
        assert json.loads((tmp_path / "x" / RECORD).read_text()) == {"version": 2}


class TestReading:
    @pytest.mark.parametrize(
        ("record", "rule"),
        [
            (None, "must contain extract.json"),
            ("{", "must be JSON of format_version 1"),
            (json.dumps({"format_version": 2}), "must be JSON of format_version 1"),
        ],
    )
    def test_refuses_a_broken_record(self, tmp_path: Path, record: str | None, rule: str) -> None:
        if record is not None:
            (tmp_path / RECORD).write_text(record)
        with pytest.raises(SourceError, match=rule):
            read_extract_record(tmp_path)

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (lambda rows: rows[:-1], "has 64 rows of train, found 63"),
            (lambda rows: rows + rows[2:3], "has 64 rows of train, found 65"),
            (lambda rows: with_first(rows, split="other"), "has 8 rows of dev, found 7"),
            (lambda rows: with_first(rows, labels=["none such"]), "must have the number of rows of each label"),
            (lambda rows: [{"key": row["key"]} for row in rows], "must be Parquet with the columns of an extract"),
        ],
    )
    def test_refuses_other_rows(self, tmp_path: Path, change: Callable[[Rows], Any], error: str) -> None:
        extract = tiny_extract(tmp_path / "extract", n=80)
        file = extract / DATA / "part-0.parquet"
        pq.write_table(pa.Table.from_pylist(change(pq.read_table(file).to_pylist())), file)
        with pytest.raises(SourceError, match="run ptec extract again") as caught:
            read_splits(extract, validation_share=0.2, others=("dev",))
        assert error in str(caught.value)

    def test_reads_a_uri(self, tmp_path: Path) -> None:
        folder = tiny_extract(tmp_path / "x", n=40)
        assert read_split(f"file://{folder}", "dev").keys == read_split(folder, "dev").keys

    def test_refuses_an_empty_train(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"both need rows with a label, had 0 and \d+ labels on 0 and 32 rows"):
            read_splits(tiny_extract(tmp_path / "x", n=40), validation_share=0.9999)
