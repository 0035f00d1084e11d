"""Jars of Spark's packages: found once for a warehouse, and kept off the path of Python."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

from pyspark import SparkContext, SparkFiles
from pyspark.sql import SparkSession


def remember_jars(spark: SparkSession, folder: Path) -> None:
    """Note where Spark found its packages: the next start then neither resolves them again nor needs a network."""
    packages = spark.conf.get("spark.jars.packages", "")
    jars = spark.conf.get("spark.jars", "")
    if packages and jars:
        (folder / "jars.json").write_text(json.dumps({"packages": packages, "jars": jars}), encoding="utf-8")


def remembered_jars(folder: Path, packages: str) -> dict[str, str]:
    """Return settings with the jars of an earlier start, if they are of the same packages and all still there."""
    try:
        noted = json.loads((folder / "jars.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    jars = str(noted["jars"]).split(",")
    if noted["packages"] != packages or not all(Path(jar.removeprefix("file://")).exists() for jar in jars):
        return {}
    return {"spark.jars": noted["jars"], "spark.jars.packages": ""}


def keep_from_python(context: SparkContext) -> None:
    """Take jars that hold no Python code off the path of Python, here and in workers.

    Spark puts the jars of ``spark.jars.packages`` there, since some hold Python code too. Every worker then reads the
    directory of each jar twice and keeps both: with Delta's, .8 s and 75 MB a worker.
    """
    names = getattr(context, "_python_includes", None) or []  # there is no public way to it
    root = SparkFiles.getRootDirectory()
    useless = {name for name in names if name.endswith(".jar") and not _has_python(Path(root, name))}
    names[:] = [name for name in names if name not in useless]
    paths = {str(Path(root, name)) for name in useless}
    sys.path[:] = [path for path in sys.path if path not in paths]


def _has_python(jar: Path) -> bool:
    """Tell whether a jar may hold Python code; so does one that cannot be read."""
    try:
        with zipfile.ZipFile(jar) as file:
            return any(name.endswith((".py", ".pyc")) for name in file.namelist())
    except (OSError, zipfile.BadZipFile):
        return True
