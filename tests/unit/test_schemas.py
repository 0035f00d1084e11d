"""Schemas: comments, partitions, and the errors of existing tables."""

from __future__ import annotations

from pyspark.sql import types as T

from ptec_udf.warehouse.schemas import SCHEMAS, schema_errors


def test_every_column_has_a_comment() -> None:
    assert [f"{table}.{field.name}" for table in SCHEMAS for field in SCHEMAS[table] if not field.metadata] == []


class TestSchemaErrors:
    def test_own_schema_and_extra_columns_fit(self) -> None:
        extra = T.StructField("ticket", T.StringType())
        assert [schema_errors(table, T.StructType([*SCHEMAS[table].fields, extra])) for table in SCHEMAS] == [
            [] for _ in SCHEMAS
        ]

    def test_names_each_missing_and_wrong_column(self) -> None:
        kept = [field for field in SCHEMAS["labels"].fields if field.name not in ("threshold", "position")]
        errors = schema_errors("labels", T.StructType([*kept, T.StructField("position", T.StringType())]))
        assert len(errors) == 2
        assert "column position must be int, was string" in errors[0]
        assert "column threshold must be float, was missing" in errors[1]
