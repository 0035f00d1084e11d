"""One Spark session for all tests of this folder, and one database, whose tables are put back before each test."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ptec_udf.config import WarehouseConfig
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.view_files import VIEWS
from tests.quick import QUICK
from tests.spark.support import Site, changed_companies, clear_log_cache, companies

DATABASE = "test"


@pytest.fixture(scope="session")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the JVM and its Python workers write to standard error, of which they have their own copy."""
    return tmp_path_factory.mktemp("log") / "jvm.log"


@contextmanager
def _errors_to(file: Path) -> Iterator[None]:
    """Let processes that are started in the block write errors to a file."""
    kept = os.dup(2)
    with file.open("wb") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@pytest.fixture
def jvm_log(spark: SparkSession, log_file: Path) -> Callable[[], str]:
    """Return what the JVM and its workers have written to standard error since the test began."""
    begin = log_file.stat().st_size

    def said() -> str:
        assert spark._jvm is not None
        spark._jvm.java.lang.System.err.println("that is all")
        end = time.monotonic() + 10
        while "that is all" not in (written := log_file.read_bytes()[begin:].decode("utf-8", errors="replace")):
            assert time.monotonic() < end, "nothing of it comes here"
            time.sleep(0.05)
        return written

    return said


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory, log_file: Path) -> Iterator[SparkSession]:
    folder = tmp_path_factory.mktemp("session")
    config = WarehouseConfig(
        folder=str(folder),
        database=DATABASE,
        master="local[2]",
        spark={
            **QUICK,  # the commands of tests/e2e compile
            "spark.default.parallelism": 2,
            "spark.driver.memory": "3g",
        },
    )
    with _errors_to(log_file):
        session = build_session(config, "ptec-tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def empty_tables(spark: SparkSession) -> Path:
    """A copy of the folders of our tables, all empty; making them for each test would take most of its time."""
    made = Warehouse(spark, DATABASE)
    made.ensure()
    return _kept(made, "empty")


@pytest.fixture(scope="session")
def champion_tables(spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our tables with a champion, and of a source of thirty companies."""
    made = Warehouse(spark, DATABASE)
    _put(made, empty_tables)
    site = Site(made, tmp_path_factory.mktemp("champion"))
    site.write(companies(20))
    site.champion()
    return _kept(made, "champion")


@pytest.fixture(scope="session")
def scored_tables(spark: SparkSession, champion_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the same after a run."""
    made = Warehouse(spark, DATABASE)
    _put(made, champion_tables)
    Site(made, tmp_path_factory.mktemp("scored")).run()
    return _kept(made, "scored")


@pytest.fixture(scope="session")
def changed_tables(spark: SparkSession, scored_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the same after another run, on ``changed_companies``."""
    made = Warehouse(spark, DATABASE)
    _put(made, scored_tables)
    site = Site(made, tmp_path_factory.mktemp("changed"))
    site.write(changed_companies(20))
    site.run()
    return _kept(made, "changed")


@pytest.fixture
def warehouse(spark: SparkSession, empty_tables: Path) -> Warehouse:
    """Our tables, all empty."""
    made = Warehouse(spark, DATABASE)
    _put(made, empty_tables)
    return made


@pytest.fixture
def empty(warehouse: Warehouse, tmp_path: Path) -> Site:
    """A site without a source and without a model."""
    return Site(warehouse, tmp_path)


@pytest.fixture
def site(empty: Site) -> Site:
    """A site with thirty companies and no model."""
    empty.write(companies(20))
    return empty


@pytest.fixture
def with_champion(spark: SparkSession, champion_tables: Path, tmp_path: Path) -> Site:
    """A site with thirty companies and a champion, before its first run."""
    made = Warehouse(spark, DATABASE)
    _put(made, champion_tables)
    return Site(made, tmp_path)


@pytest.fixture
def scored(spark: SparkSession, scored_tables: Path, tmp_path: Path) -> Site:
    """A site with thirty companies and a champion, after its first run."""
    made = Warehouse(spark, DATABASE)
    _put(made, scored_tables)
    return Site(made, tmp_path)


@pytest.fixture
def changed(spark: SparkSession, changed_tables: Path, tmp_path: Path) -> Site:
    """A site after two runs: in the second c0000 has another text, c0005 is removed and fresh is new."""
    made = Warehouse(spark, DATABASE)
    _put(made, changed_tables)
    return Site(made, tmp_path)


def _folder(warehouse: Warehouse) -> Path:
    return Path(warehouse.spark.conf.get(FOLDER_SETTING)) / warehouse.database


def _kept(warehouse: Warehouse, name: str) -> Path:
    """Copy the folders of all tables as they stand."""
    return Path(shutil.copytree(_folder(warehouse), _folder(warehouse).parents[1] / "kept" / name))


def _put(warehouse: Warehouse, tables: Path) -> None:
    """Put folders of tables in place of those that stand; what else is in the database goes, but our views."""
    spark, database, folder = warehouse.spark, warehouse.database, _folder(warehouse)
    found = spark.sql(f"SHOW VIEWS IN `{database}`").collect()
    views = {row["viewName"] for row in found if not row["isTemporary"]}
    found = spark.sql(f"SHOW TABLES IN `{database}`").collect()
    there = {row["tableName"] for row in found if not row["isTemporary"]} - views
    for view in views - set(VIEWS):
        spark.sql(f"DROP VIEW `{database}`.`{view}`")
    for table in there - SCHEMAS.keys():
        spark.sql(f"DROP TABLE `{database}`.`{table}`")
    shutil.rmtree(folder)
    shutil.copytree(tables, folder)
    for table in sorted({place.name for place in tables.iterdir()} - (there & SCHEMAS.keys())):
        spark.sql(f"CREATE TABLE `{database}`.`{table}` USING delta LOCATION '{folder / table}'")
    clear_log_cache(spark)
    spark.catalog.clearCache()
