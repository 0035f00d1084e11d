"""One Spark session for all tests of this folder; a database of its own for each test that asks."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ptec_udf.config import WarehouseConfig
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.session import FOLDER_SETTING, build_session
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site, companies

# Queries over a few rows are done before their code is compiled; the commands of tests/e2e compile it. A catalog that
# is thrown away need not reach the disk.
QUICK_JVM = {
    "spark.driver.extraJavaOptions": "-Dderby.system.durability=test",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.driver.memory": "3g",
}

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


@pytest.fixture(scope="session")
def empty_tables(spark: SparkSession) -> Path:
    """Folders of our tables, all empty; making them anew for each test would take most of its time."""
    Warehouse(spark, "template").ensure()
    return Path(spark.conf.get(FOLDER_SETTING)) / "tables" / "template.db"


@pytest.fixture
def warehouse(spark: SparkSession, empty_tables: Path) -> Iterator[Warehouse]:
    made = Warehouse(spark, f"test_{next(_NUMBERS)}")
    folder = empty_tables.with_name(f"{made.database}.db")
    shutil.copytree(empty_tables, folder)
    spark.sql(f"CREATE DATABASE `{made.database}`")
    for table in SCHEMAS:
        spark.sql(f"CREATE TABLE {made.name(table)} USING delta LOCATION '{folder / table}'")
    yield made
    spark.sql(f"DROP DATABASE `{made.database}` CASCADE")


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    """A warehouse with thirty companies and no model."""
    made = Site(warehouse, tmp_path)
    made.write(companies(20))
    return made
