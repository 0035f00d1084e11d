"""One Spark session for all tests of this folder; a database of its own for each test that asks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from ptec_udf.config import WarehouseConfig
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse

# Tests end before the JVM's second compiler has earned what it costs.
QUICK_JVM = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    folder = tmp_path_factory.mktemp("session")
    config = WarehouseConfig(
        folder=str(folder),
        master="local[2]",
        spark={"spark.sql.shuffle.partitions": 2, "spark.default.parallelism": 2, **QUICK_JVM},
    )
    session = build_session(config, "ptec-tests")
    yield session
    session.stop()


@pytest.fixture
def warehouse(spark: SparkSession) -> Iterator[Warehouse]:
    made = Warehouse(spark, f"test_{next(_NUMBERS)}")
    made.ensure()
    yield made
    spark.sql(f"DROP DATABASE `{made.database}` CASCADE")
