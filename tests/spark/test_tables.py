"""Tables: creation, pinned reads, the guard of the merge, reruns and other readers."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from ptec_udf.config import WarehouseConfig
from ptec_udf.errors import ConfigError
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse

MODEL = "m1"


def score(key: str, version: int, probability: float = 0.5, **more: Any) -> dict[str, Any]:
    """A row of ``scores``."""
    row = {"key": key, "model_id": MODEL, "status": "ok", "source_id": "crm", "source_version": version}
    return row | {"logits": [0.0], "probabilities": [probability], "labels": []} | more


def merge(warehouse: Warehouse, *rows: dict[str, Any], **options: Any) -> None:
    """Merge rows given as dictionaries."""
    names = SCHEMAS["scores"].names
    values = [tuple(row.get(name) for name in names) for row in rows]
    warehouse.merge_scores(
        warehouse.spark.createDataFrame(values, SCHEMAS["scores"]), model_id=MODEL, run_id="r1", **options
    )


def probabilities(warehouse: Warehouse, version: int | None = None) -> dict[str, float]:
    """First probability by company."""
    return {row.key: row.probabilities[0] for row in warehouse.read("scores", version).collect()}


def test_ensure_creates_every_table_once_and_with_comments(warehouse: Warehouse) -> None:
    warehouse.ensure()
    assert [warehouse.version(table) for table in SCHEMAS] == [0] * len(SCHEMAS)
    field = warehouse.spark.table(warehouse.name("scores")).schema["removed_in"]
    assert field.metadata["comment"].startswith("source version in which the company was missing")


def test_ensure_names_all_faults_of_existing_tables(spark: SparkSession) -> None:
    faulty = Warehouse(spark, "faulty")
    spark.sql("CREATE DATABASE faulty")
    for table, columns in (("aliases", "alias string, model_id int"), ("labels", "model_id string")):
        spark.sql(f"CREATE TABLE {faulty.name(table)} ({columns}) USING delta")
    with pytest.raises(ConfigError) as caught:
        faulty.ensure()
    assert any("table aliases: column model_id must be string, was int" in fault for fault in caught.value.errors)
    assert any("table labels: column threshold must be float, was missing" in fault for fault in caught.value.errors)


def test_a_read_is_pinned_and_a_missing_column_becomes_null(warehouse: Warehouse) -> None:
    warehouse.append("aliases", [{"alias": "champion", "model_id": "a"}])
    before = warehouse.read("aliases")
    warehouse.append("aliases", [{"alias": "champion", "model_id": "b"}])
    assert [(row.model_id, row.why) for row in before.collect()] == [("a", None)]
    assert warehouse.read("aliases").count() == 2
    assert warehouse.read("aliases", 0).count() == 0


def test_merge_replaces_only_by_an_equal_or_newer_version(warehouse: Warehouse) -> None:
    merge(warehouse, score("o'hara", 5, 0.5), score("b", 5, 0.5), score("c", 5, 0.5))
    merge(warehouse, score("o'hara", 4, 0.1), score("b", 5, 0.2), score("c", 6, 0.3), score("d", 1, 0.4))
    assert probabilities(warehouse) == pytest.approx({"o'hara": 0.5, "b": 0.2, "c": 0.3, "d": 0.4})


def test_merge_replaces_another_source_only_when_told(warehouse: Warehouse) -> None:
    merge(warehouse, score("a", 5, 0.5))
    merge(warehouse, score("a", 9, 0.1, source_id="other"))
    assert probabilities(warehouse) == pytest.approx({"a": 0.5})
    merge(warehouse, score("a", 0, 0.2, source_id="other"), accept_new_source=True)
    assert probabilities(warehouse) == pytest.approx({"a": 0.2})


def test_who_had_left_an_earlier_source_may_come_back_in_another(warehouse: Warehouse) -> None:
    merge(warehouse, score("a", 5, 0.5), score("b", 5, 0.5))
    merge(warehouse, score("a", 5, 0.5) | {"removed_in": 5})
    merge(warehouse, score("a", 1, 0.1, source_id="other"), score("b", 1, 0.1, source_id="other"))
    assert probabilities(warehouse) == pytest.approx({"a": 0.1, "b": 0.5})


def test_merge_leaves_rows_of_another_model_alone(warehouse: Warehouse) -> None:
    warehouse.append("scores", [score("a", 1, 0.9, model_id="m2")])
    merge(warehouse, score("a", 5, 0.5))
    rows = {row.model_id: row.probabilities[0] for row in warehouse.read("scores").collect()}
    assert rows == pytest.approx({"m2": 0.9, MODEL: 0.5})


def test_a_merge_names_its_run(warehouse: Warehouse) -> None:
    merge(warehouse, score("a", 5, 0.5))
    warehouse.append("scores", [score("b", 1, 0.9, model_id="m2")])
    assert warehouse.versions_by_run("scores") == {"r1": warehouse.version("scores") - 1}


def test_writing_a_run_twice_leaves_its_rows_once(warehouse: Warehouse) -> None:
    for run, keys in (("r'1", "ab"), ("r2", "c"), ("r'1", "bd")):
        rows = warehouse.spark.createDataFrame([(run, key) for key in keys], "run_id string, key string")
        warehouse.replace_run("score_changes", rows, run)
    found = sorted((row.run_id, row.key) for row in warehouse.read("score_changes").collect())
    assert found == [("r'1", "b"), ("r'1", "d"), ("r2", "c")]


def test_the_running_session_is_used_and_checked(spark: SparkSession) -> None:
    folder = spark.conf.get(FOLDER_SETTING)
    assert build_session(WarehouseConfig(folder=folder, database="test")) is spark
    with pytest.raises(ConfigError, match=r"warehouse\.folder must be .* in this process"):
        build_session(WarehouseConfig(folder="/another"))
