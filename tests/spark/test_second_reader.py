"""Readers other than Spark see the same scores."""

from __future__ import annotations

from pathlib import Path

import deltalake
import duckdb
import pytest

from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site, companies


def test_deltalake_and_duckdb_give_the_same_rows_and_sums(warehouse: Warehouse, tmp_path: Path) -> None:
    site = Site(warehouse, tmp_path)
    site.write(companies(30))
    site.champion()
    site.night()
    site.write(companies(32)[3:])
    site.night()
    location = site.spark.sql(f"DESCRIBE DETAIL {warehouse.name('scores')}").first()["location"]
    scores = deltalake.DeltaTable(location.removeprefix("file:")).to_pyarrow_table()  # noqa: F841 (DuckDB sees it)
    query = "SELECT count(*), count(removed_in), CAST(sum(n_tokens) AS BIGINT), sum({total}) FROM {table}"
    (found,) = duckdb.sql(query.format(total="list_sum(probabilities)", table="scores")).fetchall()
    total = "aggregate(probabilities, 0D, (sum, p) -> sum + p)"
    expected = tuple(site.spark.sql(query.format(total=total, table=warehouse.name("scores"))).first())
    assert found[:3] == expected[:3]
    assert found[3] == pytest.approx(expected[3], rel=1e-5)  # one adds floats, the other doubles
    assert found[0] == 42
