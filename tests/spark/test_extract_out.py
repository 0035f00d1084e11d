"""Where an extract is written, and what stands there when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ptec_udf.errors import ConfigError
from tests.spark.test_extract import PLAIN, config, run, written
from training.data.folder import ExtractWriter, read_extract_record


def test_a_folder_in_use_is_refused_and_an_extract_replaced_on_request(spark: SparkSession, tmp_path: Path) -> None:
    out = tmp_path / "x"
    run(spark, PLAIN, config(out))
    with pytest.raises(ConfigError, match="must be absent or empty"):
        run(spark, PLAIN, config(out))

    run(spark, PLAIN[:2], config(out, overwrite=True))
    assert written(spark, out).keys() == {"1", "2"}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    (out / "notes.txt").touch()
    (tmp_path / "somebody's" / "data").mkdir(parents=True)
    for other in (out, tmp_path / "somebody's"):
        with pytest.raises(ConfigError, match="other files than an extract"):
            run(spark, PLAIN, config(other, overwrite=True))


def test_a_location_is_written_with_its_record_last(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"file://{tmp_path}/x"
    write_record = ExtractWriter.write_record

    def last(self: ExtractWriter, record: dict[str, Any]) -> None:
        assert written(spark, tmp_path / "x").keys() == {"1", "2", "3", "4", "5"}
        write_record(self, record)

    monkeypatch.setattr(ExtractWriter, "write_record", last)

    record = run(spark, PLAIN, config(out))

    assert read_extract_record(out) == record
    assert written(spark, tmp_path / "x").keys() == {"1", "2", "3", "4", "5"}


def test_a_folder_may_have_any_name(spark: SparkSession, tmp_path: Path) -> None:
    out = tmp_path / "É [a] {b} 100%20 *"

    run(spark, PLAIN, config(out))

    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert list((out / "data").glob("*.parquet"))
    assert read_extract_record(out)["version"] == 3
