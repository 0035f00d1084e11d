"""Jars of Spark's packages cost Python nothing, unless they hold Python code."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession

from ptec_udf.warehouse.jars import keep_from_python


@pytest.fixture
def context(spark: SparkSession, tmp_path: Path) -> Iterator[SparkContext]:
    """The session's, with jars as of packages; one is none at all."""
    context = spark.sparkContext
    names, paths = list(context._python_includes or []), list(sys.path)
    entries = {
        "java.jar": "a/B.class",
        "python.jar": "only_here/a.py",
        "installed.jar": "pandas/__init__.py",
        "more.jar": "pandas/only_here.py",
        "broken.jar": None,
    }
    for name, entry in entries.items():
        jar = tmp_path / name
        jar.write_bytes(b"none")
        if entry:
            with zipfile.ZipFile(jar, "w") as file:
                file.writestr(entry, "VALUE = 5")
        context.addPyFile(str(jar))
    yield context
    assert context._python_includes is not None
    context._python_includes[:], sys.path[:] = names, paths


def jars_of_a_worker(context: SparkContext) -> list[str]:
    def look(_: int) -> list[str]:
        return sorted(Path(path).name for path in sys.path if path.endswith(".jar"))

    (found,) = context.parallelize([0], 1).map(look).collect()
    return found


def test_only_jars_with_python_code_are_on_the_path(context: SparkContext) -> None:
    keep_from_python(context)
    stay = ["broken.jar", "more.jar", "python.jar"]
    assert [name for name in jars_of_a_worker(context) if not name.startswith("spark-")] == stay
    assert sorted(Path(path).name for path in sys.path if path.endswith(".jar")) == stay


def test_a_session_has_none_of_delta_s(spark: SparkSession) -> None:
    assert "delta" in spark.conf.get("spark.jars", "")
    assert not [name for name in jars_of_a_worker(spark.sparkContext) if "delta" in name]
    assert not [path for path in sys.path if "delta" in path and path.endswith(".jar")]
