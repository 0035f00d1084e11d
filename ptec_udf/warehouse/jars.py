"""Jars of Delta: resolved at the first start of an embedded warehouse, then named by their paths.

Spark resolves ``spark.jars.packages`` at every start, prints the report of Ivy and puts all jars on the path of each
Python worker (0.8 s and 75 MB a worker). ``spark.jars`` does none of this.
"""

from __future__ import annotations

import json
from pathlib import Path

from pyspark.sql import SparkSession

_FILE = "jars.json"


def remember_jars(spark: SparkSession, folder: Path) -> None:
    """Record where Spark found its packages, so that the next start needs no network."""
    packages, jars = spark.conf.get("spark.jars.packages", ""), spark.conf.get("spark.jars", "")
    if packages and jars:
        (folder / _FILE).write_text(json.dumps({"packages": packages, "jars": jars}), encoding="utf-8")


def remembered_jars(folder: Path, packages: str) -> dict[str, str]:
    """Return settings with the recorded jars, if they are of these packages and all of them exist."""
    try:
        recorded = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    jars = str(recorded["jars"]).split(",")
    if recorded["packages"] != packages or not all(Path(jar.removeprefix("file://")).exists() for jar in jars):
        return {}
    return {"spark.jars": recorded["jars"], "spark.jars.packages": ""}
