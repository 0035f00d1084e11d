"""Sources: pinned to a version, known again, and refused with the reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ptec_udf.config import SourceConfig, WarehouseConfig
from ptec_udf.errors import SourceError
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from ptec_udf.warehouse.remote import DeltaLog
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.source import PinnedSource, pin, quoted_name
from ptec_udf.warehouse.tables import Warehouse


def source(**values: Any) -> SourceConfig:
    """A source configuration."""
    return SourceConfig.model_validate(values)


def write(spark: SparkSession, place: str, *keys: str, form: str = "delta") -> None:
    """Append companies to a folder."""
    spark.createDataFrame([(key,) for key in keys], "key string").write.format(form).mode("append").save(place)


def keys(spark: SparkSession, pinned: PinnedSource) -> set[str]:
    """Companies that a pinned source holds."""
    return {row.key for row in pinned.read(spark).collect()}


def record_run(warehouse: Warehouse, pinned: PinnedSource) -> None:
    """Write what a night writes about its source."""
    row = {"source_id": pinned.source_id, "source_version": pinned.version, "source_fingerprint": pinned.fingerprint}
    warehouse.append_rows("runs", [row])


def test_a_delta_table_is_read_at_its_version_by_name_and_by_path(spark: SparkSession, warehouse: Warehouse) -> None:
    name = f"{warehouse.database}.companies"
    spark.sql(f"CREATE TABLE {name} USING delta AS SELECT 'a' AS key")
    place = spark.sql(f"DESCRIBE DETAIL {name}").first()["location"].removeprefix("file:")
    by_name, by_path = pin(spark, source(table=name)), pin(spark, source(path=place))
    spark.sql(f"INSERT INTO {name} VALUES ('b')")
    assert (by_name.kind, by_name.version, by_name.fingerprint) == ("delta", 0, by_name.source_id)
    assert by_name.source_id == by_path.source_id
    assert keys(spark, by_name) == keys(spark, by_path) == {"a"}
    assert pin(spark, source(table=name)).version == 1
    assert keys(spark, pin(spark, source(table=name, version=0))) == {"a"}


def test_a_version_whose_files_are_there_is_read_however_old_it_is(spark: SparkSession, warehouse: Warehouse) -> None:
    name = f"{warehouse.database}.companies"
    at_once = "TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')"
    spark.sql(f"CREATE TABLE {name} USING delta {at_once} AS SELECT 'a' AS key")
    pinned = pin(spark, source(table=name))
    spark.sql(f"INSERT INTO {name} VALUES ('b')")
    assert keys(spark, pinned) == keys(spark, pin(spark, source(table=name, version=0))) == {"a"}


def test_a_site_that_refuses_old_versions_goes_on_to_do_so(spark: SparkSession) -> None:
    name = "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration"
    for set_before, stands in (("true", "true"), (None, "false")):
        spark.conf.set(name, set_before) if set_before else spark.conf.unset(name)
        build_session(WarehouseConfig(folder=spark.conf.get(FOLDER_SETTING)))
        assert spark.conf.get(name) == stands


def test_a_table_made_again_is_another_source(spark: SparkSession, warehouse: Warehouse) -> None:
    name, ids = f"{warehouse.database}.companies", set()
    for _ in range(2):
        spark.sql(f"DROP TABLE IF EXISTS {name}")
        spark.sql(f"CREATE TABLE {name} (key string) USING delta")
        ids.add(pin(spark, source(table=name)).source_id)
    assert len(ids) == 2


def test_a_version_that_is_not_there_names_the_range(spark: SparkSession, tmp_path: Path) -> None:
    place = str(tmp_path / "it's a folder")
    write(spark, place, "a")
    write(spark, place, "b")
    with pytest.raises(SourceError, match=r"must be 0 to 1 or null, was 7"):
        pin(spark, source(path=place, version=7))


def test_a_vacuumed_version_is_refused_before_the_read(spark: SparkSession, tmp_path: Path) -> None:
    place = str(tmp_path / "a b")
    write(spark, place, "a")
    for key in "bc":
        spark.createDataFrame([(key,)], "key string").write.format("delta").mode("overwrite").save(place)
    first = spark.read.format("delta").option("versionAsOf", 0).load(place).inputFiles()
    Path(first[0].removeprefix("file:")).unlink()
    with pytest.raises(SourceError, match=r"must be 1 to 2 or null, was 0"):
        pin(spark, source(path=place, version=0))
    with pytest.raises(SourceError) as caught:
        pin(spark, source(path=place, version=0, key="other"))
    assert [fault.partition(" ")[0] for fault in caught.value.errors] == ["source.version", "source.key"]
    assert keys(spark, pin(spark, source(path=place, version=1))) == {"b"}


def test_a_parquet_folder_keeps_its_version_until_its_files_change(
    spark: SparkSession, warehouse: Warehouse, tmp_path: Path
) -> None:
    place = tmp_path / "companies"
    write(spark, str(place), "a", form="parquet")
    first = pin(spark, source(path=str(place)), warehouse)
    assert (first.kind, first.version) == ("parquet", 0)
    record_run(warehouse, first)
    assert pin(spark, source(path=str(place)), warehouse) == first
    write(spark, str(place), "b", form="parquet")
    second = pin(spark, source(path=str(place)), warehouse)
    assert (second.source_id, second.version) == (first.source_id, 1)
    assert second.fingerprint != first.fingerprint
    assert keys(spark, second) == {"a", "b"}
    record_run(warehouse, second)
    file = next(place.glob("*.parquet"))
    os.utime(file, (1, 1))
    assert pin(spark, source(path=str(place)), warehouse).version == 2


def test_the_id_that_a_replaced_table_had_is_known_with_and_without_the_log(
    spark: SparkSession, warehouse: Warehouse
) -> None:
    name, ids = f"{warehouse.database}.replaced", []
    for key in "abc":
        spark.sql(f"CREATE OR REPLACE TABLE {name} USING delta AS SELECT '{key}' AS key")
        spark.sql(f"INSERT INTO {name} VALUES ('more')")
        ids += [DeltaLog(spark, name).newest()[1]] * 2
    assert len(set(ids)) == 3
    log = DeltaLog(spark, name)
    assert [log.id_at(version) for version in range(6)] == ids
    assert log.id_at(6) is None
    assert [log._id_by_query(version) for version in range(6)] == ids
    assert pin(spark, source(table=name, version=3)).fingerprint == ids[3]


def test_the_id_is_known_where_the_log_was_cleaned(spark: SparkSession, tmp_path: Path) -> None:
    place = tmp_path / "d[1]{a}"
    for key in "abcd":
        write(spark, str(place), key)
        spark.sql(f"ALTER TABLE delta.`{place}` SET TBLPROPERTIES ('delta.checkpointInterval' = '3')")
    first = DeltaLog(spark, path=str(place)).newest()[1]
    for file in (place / "_delta_log").glob("0*"):  # a checkpoint of version 6 holds what they said
        if file.name < f"{6:020d}":
            file.unlink()
    spark.sql(f"CREATE OR REPLACE TABLE delta.`{place}` USING delta AS SELECT 'e' AS key")
    log = DeltaLog(spark, path=str(place))
    assert log.newest()[1] != first
    for known in (log.id_at, log._id_by_query):
        assert [known(version) for version in (5, 6, 7, 8)] == [None, first, first, log.newest()[1]]


def test_a_folder_named_like_a_pattern_is_read_itself(spark: SparkSession, tmp_path: Path) -> None:
    place, taken_for = tmp_path / "c[1]{a}*", tmp_path / "c1a"
    for folder, key in ((place, "a"), (taken_for, "wrong")):
        write(spark, str(tmp_path / "written"), key, form="parquet")
        (tmp_path / "written").rename(folder)
    assert keys(spark, pin(spark, source(path=str(place)))) == {"a"}


def test_runs_that_counted_alike_and_saw_other_files_agree_on_nothing(
    spark: SparkSession, warehouse: Warehouse, tmp_path: Path
) -> None:
    place = tmp_path / "companies"
    seen = []
    for key in "ab":  # the second begins before the first has a row
        write(spark, str(place), key, form="parquet")
        seen.append(pin(spark, source(path=str(place)), warehouse))
    assert [one.version for one in seen] == [0, 0]
    for one in seen:
        record_run(warehouse, one)
    assert pin(spark, source(path=str(place)), warehouse).version == 1


def test_a_view_counts_every_night(spark: SparkSession, warehouse: Warehouse) -> None:
    name = f"{warehouse.database}.recent"
    spark.sql(f"CREATE VIEW {name} AS SELECT 'a' AS key")
    first = pin(spark, source(table=name), warehouse)
    record_run(warehouse, first)
    second = pin(spark, source(table=name), warehouse)
    assert (first.kind, first.version, second.version, second.fingerprint) == ("view", 0, 1, None)
    assert second.source_id == first.source_id
    spark.sql(f"CREATE OR REPLACE VIEW {name} AS SELECT 'b' AS key")
    assert pin(spark, source(table=name), warehouse).source_id != first.source_id
    assert pin(spark, source(table=name)).version == 0


def test_a_temporary_view_with_an_odd_name_can_be_read(spark: SparkSession) -> None:
    for name in ("companies of 2026", "a.b`c", "Größe"):
        spark.createDataFrame([("a",)], "key string").createOrReplaceTempView("`" + name.replace("`", "``") + "`")
    for name in ("companies of 2026", "`a.b``c`", "Größe"):
        pinned = pin(spark, source(table=name))
        assert keys(spark, pinned) == {"a"}
        spark.sql(f"DROP VIEW {pinned.table}")


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("companies", "`companies`"),
        ("crm.my companies-2", "`crm`.`my companies-2`"),
        ("main.crm.`a.b``c`", "`main`.`crm`.`a.b``c`"),
        ("x; DROP TABLE y", "`x; DROP TABLE y`"),
    ],
)
def test_each_part_of_a_name_is_quoted(name: str, quoted: str) -> None:
    assert quoted_name(name) == quoted


@pytest.mark.parametrize("name", ["a.b.c.d", "a..b", ".a", "a`b", "`a", "`a`b", ""])
def test_a_name_that_is_not_parts_is_refused(name: str) -> None:
    with pytest.raises(SourceError, match="one to three names"):
        quoted_name(name)


def test_what_is_missing_or_of_another_kind_is_said(spark: SparkSession, warehouse: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no table or view 'crm\.nothing'"):
        pin(spark, source(table="crm.nothing"))
    with pytest.raises(SourceError, match=r"source\.path must exist"):
        pin(spark, source(path=str(tmp_path / "nothing")))
    (tmp_path / "notes.csv").write_text("key\na\n")
    with pytest.raises(SourceError, match="holds neither"):
        pin(spark, source(path=str(tmp_path)))
    spark.sql(f"CREATE TABLE {warehouse.database}.plain USING parquet AS SELECT 'a' AS key")
    with pytest.raises(SourceError, match=r"is neither; set source.path"):
        pin(spark, source(table=f"{warehouse.database}.plain"))


@pytest.mark.parametrize(
    "key",
    ["X'80'", "TIMESTAMP'2026-10-25 01:30:00'", "array('a, b')", "named_struct('a', 1)", "to_variant_object(array(1))"],
)
def test_a_key_of_a_type_in_which_two_values_have_one_text_is_refused(
    spark: SparkSession, warehouse: Warehouse, key: str
) -> None:
    spark.sql(f"CREATE VIEW {warehouse.database}.keyed AS SELECT {key} AS key")
    with pytest.raises(SourceError, match=r"source\.key must be a column of text, numbers, .*'key' is \w+"):
        pin(spark, source(table=f"{warehouse.database}.keyed"))


def test_a_file_that_breaks_the_schema_is_told_without_the_value_of_its_partition(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "name=Secret Ltd").mkdir()
    (tmp_path / "name=Secret Ltd" / "a.parquet").write_bytes(b"PAR1 broken PAR1")
    with pytest.raises(SourceError, match="cannot be opened") as error:
        pin(spark, source(path=str(tmp_path)))
    assert "name=..." in str(error.value)
    assert "Secret" not in str(error.value)


def test_a_folder_that_cannot_be_listed_is_said(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").symlink_to("a.parquet")
    with pytest.raises(SourceError, match=r"cannot be opened: \[Errno \d+\] Too many levels of symbolic links"):
        pin(spark, source(path=str(tmp_path)))


def test_key_and_version_are_both_faults(spark: SparkSession, tmp_path: Path) -> None:
    write(spark, str(tmp_path / "p"), "a", form="parquet")
    with pytest.raises(SourceError) as caught:
        pin(spark, source(path=str(tmp_path / "p"), key="id", version=3))
    assert "source.version must be null" in caught.value.errors[0]
    assert "was 'id'; its columns are: 'key'" in caught.value.errors[1]
