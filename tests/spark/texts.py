"""Texts of a frame's rows, as a run and an extract make them."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame

from ptec_udf.text.columns import text_column, text_hash
from ptec_udf.text.template import Template


def with_text(df: DataFrame, template: Template, columns: Mapping[str, str | None] | None = None) -> DataFrame:
    """Add ``text`` and ``text_hash``; columns of ``df`` with these names are replaced."""
    return df.withColumn("text", text_column(df.schema, template, columns)).withColumn("text_hash", text_hash("text"))
