"""Schemas: what design promises of our tables, and the faults of existing ones."""

from __future__ import annotations

import pytest
from pyspark.sql import types as T

from ptec_udf.warehouse.schemas import PARTITIONED_BY, SCHEMAS, columns_to_add, schema_faults


@pytest.mark.parametrize("table", SCHEMAS)
def test_every_column_says_what_one_element_is(table: str) -> None:
    assert [field.name for field in SCHEMAS[table] if not field.metadata.get("comment")] == []


@pytest.mark.parametrize("table", SCHEMAS)
def test_a_table_has_no_fault_against_its_own_schema(table: str) -> None:
    assert schema_faults(table, SCHEMAS[table]) == []


def test_score_tables_are_partitioned_by_an_own_column() -> None:
    assert {table: ("model_id",) for table in ("scores", "score_staging", "holds")} == PARTITIONED_BY
    assert all(column in SCHEMAS[table].names for table, columns in PARTITIONED_BY.items() for column in columns)


def test_staging_holds_no_company() -> None:
    assert "key" not in SCHEMAS["score_staging"].names


def test_only_columns_of_later_releases_are_added() -> None:
    bare = T.StructType([SCHEMAS["scores"]["key"]])
    assert columns_to_add("scores", bare).names == ["corrected", "language"]
    assert columns_to_add("labels", bare).names == []
    assert all(columns_to_add(table, SCHEMAS[table]).names == [] for table in SCHEMAS)


def test_extra_columns_are_fine() -> None:
    found = T.StructType([*SCHEMAS["aliases"].fields, T.StructField("ticket", T.StringType())])
    assert schema_faults("aliases", found) == []


def test_each_missing_or_wrong_column_is_a_sentence() -> None:
    kept = [field for field in SCHEMAS["labels"].fields if field.name not in ("threshold", "position")]
    faults = schema_faults("labels", T.StructType([*kept, T.StructField("position", T.StringType())]))
    assert len(faults) == 2
    assert "column position must be int, was string" in faults[0]
    assert "column threshold (float) is missing" in faults[1]
    assert "ALTER TABLE labels ADD COLUMN threshold float" in faults[1]
