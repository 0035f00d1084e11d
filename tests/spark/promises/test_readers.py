"""Promise 10: readers other than Spark see the same tables."""

from __future__ import annotations

import deltalake
import duckdb
import pytest

from tests.spark.support import Site


class TestOutsideReaders:
    def test_see_the_same_rows_and_sums(self, changed: Site) -> None:
        scores = deltalake.DeltaTable(changed.location("scores")).to_pyarrow_table()  # noqa: F841  DuckDB reads it
        query = "SELECT count(*), count(removed_in), CAST(sum(n_tokens) AS BIGINT), sum({total}) FROM {table}"
        [found] = duckdb.sql(query.format(total="list_sum(probabilities)", table="scores")).fetchall()
        total = "aggregate(probabilities, 0D, (sum, p) -> sum + p)"
        [expected] = changed.sql(query.format(total=total, table="{db}.scores"))
        assert found[:3] == tuple(expected)[:3]
        assert found[3] == pytest.approx(expected[3], rel=1e-5)  # floats here, doubles there
        assert found[0] == 31
        details = changed.sql("DESCRIBE DETAIL {db}.scores")[0]
        assert details["partitionColumns"] == ["model_id"]
        assert not {"deletionVectors", "columnMapping", "v2Checkpoint"} & set(details["tableFeatures"])
