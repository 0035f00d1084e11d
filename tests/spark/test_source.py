"""Sources: pinned to a version, read whole without one, and refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ptec_udf.config import SourceConfig
from ptec_udf.errors import SourceError
from ptec_udf.warehouse.source import PinnedSource, pin, quoted_name
from ptec_udf.warehouse.tables import Warehouse


def source(**values: Any) -> SourceConfig:
    return SourceConfig.model_validate(values)


def write(spark: SparkSession, place: Path, *keys: str, form: str = "delta") -> None:
    spark.createDataFrame([(key,) for key in keys], "key string").write.format(form).mode("append").save(str(place))


def keys(spark: SparkSession, pinned: PinnedSource) -> set[str]:
    return {row.key for row in pinned.read(spark).collect()}


class TestDelta:
    def test_is_pinned_by_name_and_by_path(self, spark: SparkSession, warehouse: Warehouse) -> None:
        name = f"{warehouse.database}.companies"
        spark.sql(f"CREATE TABLE {name} USING delta AS SELECT 'a' AS key")
        place = spark.sql(f"DESCRIBE DETAIL {name}").collect()[0]["location"].removeprefix("file:")
        by_name, by_path = pin(spark, source(table=name)), pin(spark, source(path=place))
        spark.sql(f"INSERT INTO {name} VALUES ('b')")
        assert by_name.version == 0
        assert by_name.source_id == by_path.source_id
        assert keys(spark, by_name) == keys(spark, by_path) == {"a"}
        assert pin(spark, source(table=name)).version == 1
        assert keys(spark, pin(spark, source(table=name, version=0))) == {"a"}

    def test_recreated_is_another_source(self, spark: SparkSession, tmp_path: Path) -> None:
        write(spark, tmp_path / "first", "a")
        write(spark, tmp_path / "second", "a")
        pinned = [pin(spark, source(path=str(tmp_path / name))) for name in ("first", "second")]
        assert pinned[0].source_id != pinned[1].source_id

    def test_missing_version_and_key_are_both_errors(self, spark: SparkSession, tmp_path: Path) -> None:
        place = tmp_path / "it's a folder"
        write(spark, place, "a")
        with pytest.raises(SourceError) as caught:
            pin(spark, source(path=str(place), version=7, key="id"))
        assert [error.partition(" ")[0] for error in caught.value.errors] == ["source.version", "source.key"]
        assert "the columns are: 'key'" in caught.value.errors[1]


class TestWithoutVersions:
    def test_parquet_folder_is_read_whole(self, spark: SparkSession, tmp_path: Path) -> None:
        for name, key in (("c[1]{a}*", "a"), ("c1a", "wrong")):
            write(spark, tmp_path / "written", key, form="parquet")
            (tmp_path / "written").rename(tmp_path / name)
        pinned = pin(spark, source(path=str(tmp_path / "c[1]{a}*")))
        assert pinned.version is None
        assert keys(spark, pinned) == {"a"}

    def test_version_is_refused(self, spark: SparkSession, tmp_path: Path) -> None:
        write(spark, tmp_path / "p", "a", form="parquet")
        with pytest.raises(SourceError, match=r"source\.version must be null"):
            pin(spark, source(path=str(tmp_path / "p"), version=3))


class TestErrors:
    def test_missing_sources(self, spark: SparkSession, tmp_path: Path) -> None:
        for config in (source(table="crm.nothing"), source(path=str(tmp_path / "nothing"))):
            with pytest.raises(SourceError, match="cannot be opened"):
                pin(spark, config)

    @pytest.mark.parametrize("key", ["X'80'", "TIMESTAMP'2026-10-25 01:30:00'", "array('a, b')"])
    def test_key_of_an_ambiguous_type(self, spark: SparkSession, key: str) -> None:
        spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW keyed AS SELECT {key} AS key")
        with pytest.raises(SourceError, match=r"source\.key must be a column of text, numbers, .*'key' is \w+"):
            pin(spark, source(table="keyed"))


class TestNames:
    @pytest.mark.parametrize(
        ("name", "quoted"),
        [
            ("companies", "`companies`"),
            ("crm.my companies-2", "`crm`.`my companies-2`"),
            ("main.crm.`a.b``c`", "`main`.`crm`.`a.b``c`"),
            ("x; DROP TABLE y", "`x; DROP TABLE y`"),
        ],
    )
    def test_each_part_is_quoted(self, name: str, quoted: str) -> None:
        assert quoted_name(name) == quoted

    @pytest.mark.parametrize("name", ["a.b.c.d", "a..b", ".a", "a`b", "`a", "`a`b", ""])
    def test_other_forms_are_refused(self, name: str) -> None:
        with pytest.raises(SourceError, match="one to three names"):
            quoted_name(name)
