"""Tables that several first runs create at once, or whose creation was killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from ptec_udf.warehouse import creation
from ptec_udf.warehouse.creation import create_table
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.views import ensure_views


def on_a_site(spark: SparkSession, database: str) -> Warehouse:
    """Our tables as one of several processes of a site sees them, which have the catalog together."""
    own = spark.newSession()
    own.conf.unset(FOLDER_SETTING)
    return Warehouse(own, database)


def leave_half(folder: Path, log: bytes | None = None, age: timedelta = timedelta(0)) -> None:
    """Leave what a killed process does of a table's folder, of an age."""
    (folder / "_delta_log" / "_staged_commits").mkdir(parents=True)
    if log is not None:
        (folder / "_delta_log" / f"{0:020}.json").write_bytes(log)
    then = time.time() - age.total_seconds()
    for place in (*folder.rglob("*"), folder):
        os.utime(place, (then, then))


def at_once(runs: list[Callable[[], object]]) -> None:
    """Call all at the same moment, and raise what one of them raises."""
    begin = Barrier(len(runs))

    def run(action: Callable[[], object]) -> None:
        begin.wait(60)
        action()

    with ThreadPoolExecutor(len(runs)) as pool:
        for done in [pool.submit(run, action) for action in runs]:
            done.result()


@pytest.fixture(params=["plain", "a b%20é#"])
def database(spark: SparkSession, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Make a database in a folder with or without letters that a URI writes as numbers, and drop it afterwards."""
    name = f"created_{request.param_index}"
    spark.sql(f"CREATE DATABASE {name} LOCATION '{tmp_path / request.param}'")
    yield name
    spark.sql(f"DROP DATABASE {name} CASCADE")


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest, database: str) -> Path:
    """Return the folder of the database's table of runs, which is not there yet."""
    return tmp_path / request.node.callspec.params["database"] / "runs"


def test_first_runs_that_begin_at_once_create_everything_together(spark: SparkSession) -> None:
    made = [on_a_site(spark, "together") for _ in range(3)]

    def begin(warehouse: Warehouse) -> None:
        warehouse.ensure()
        ensure_views(warehouse)

    at_once([partial(begin, warehouse) for warehouse in made])
    for warehouse in made:
        assert [warehouse.version(table) for table in SCHEMAS] == [0] * len(SCHEMAS)
        assert ensure_views(warehouse) == []
    spark.sql("DROP DATABASE together CASCADE")


def test_runs_that_meet_an_old_half_of_a_table_at_once_create_it_together(
    spark: SparkSession, database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "_WAIT_S", 0.3)
    monkeypatch.setattr(creation, "_TRIES", 60)
    made = [on_a_site(spark, database) for _ in range(3)]
    for _ in range(5):
        leave_half(folder, age=timedelta(hours=1))
        at_once([partial(create_table, warehouse.spark, database, "runs") for warehouse in made])
        assert [path.name for path in folder.parent.iterdir()] == ["runs"]
        assert made[0].read("runs").columns == SCHEMAS["runs"].names
        spark.sql(f"DROP TABLE {database}.runs")


@pytest.mark.parametrize("log", [b"", None], ids=["empty commit", "no commit"])
def test_a_table_that_was_being_created_by_a_killed_process_is_created(
    spark: SparkSession, log: bytes | None, database: str, folder: Path
) -> None:
    leave_half(folder, log)
    create_table(spark, database, "runs")
    made = Warehouse(spark, database)
    assert made.version("runs") == 0
    assert made.read("runs").columns == SCHEMAS["runs"].names


def test_what_another_process_may_be_creating_is_waited_for(
    spark: SparkSession,
    database: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(creation, "_WAIT_S", 0.01)
    leave_half(folder, age=timedelta(minutes=5))
    with pytest.raises(AnalysisException, match="NON_EMPTY_LOCATION"):
        create_table(on_a_site(spark, database).spark, database, "runs")
    assert capsys.readouterr().err.count("runs is half created, perhaps by another process; waiting for it") == 5
    assert (folder / "_delta_log" / "_staged_commits").is_dir()


@pytest.mark.parametrize("in_between", [None, "[DELTA_TABLE_ALREADY_EXISTS]"], ids=["before", "between two questions"])
def test_a_table_that_another_process_has_just_created_and_written_stands(
    spark: SparkSession, database: str, folder: Path, monkeypatch: pytest.MonkeyPatch, in_between: str | None
) -> None:
    leave_half(folder, age=timedelta(hours=1))
    other, begun = Warehouse(spark.newSession(), database), []
    build = creation._build

    def late(*place: Any) -> None:
        try:
            build(*place)
        except AnalysisException:
            if not begun:  # what this one is told is old by the time it looks
                begun.append(place)
                create_table(other.spark, database, "runs")
                other.append_rows("runs", [{"run_id": "first"}])
                if in_between:  # Spark finds no table and lets Delta create it, which finds one
                    raise AnalysisException(in_between) from None
            raise

    monkeypatch.setattr(creation, "_build", late)
    create_table(on_a_site(spark, database).spark, database, "runs")
    assert begun
    assert [row.run_id for row in other.read("runs").collect()] == ["first"]


def test_data_where_a_table_is_to_be_is_never_cleared_away(spark: SparkSession, database: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "part-0.parquet").write_bytes(b"a company's data")
    with pytest.raises(AnalysisException, match="NON_EMPTY_LOCATION"):
        Warehouse(spark, database).ensure()
    assert (folder / "part-0.parquet").read_bytes() == b"a company's data"
