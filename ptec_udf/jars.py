"""Jars of Spark's packages: found once for a warehouse, and kept off the path of Python."""

from __future__ import annotations

import json
import sys
import zipfile
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath

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
    """Take jars off the path of Python, here and in workers, but for those with Python code that is only there.

    Spark puts the jars of ``spark.jars.packages`` there, since some hold Python code too; that of Delta's is installed
    with its Python package as well. Every worker then reads the directory of each jar twice and keeps both: with
    Delta's, .8 s and 75 MB a worker.
    """
    names = getattr(context, "_python_includes", None) or []  # there is no public way to it
    root = SparkFiles.getRootDirectory()
    names[:] = [name for name in names if not _is_useless(str(Path(root, name)))]
    forget_jars()


def forget_jars() -> None:
    """Take jars off this process's own path as ``keep_from_python`` does; Spark puts one of its own there."""
    useless = {path for path in sys.path if _is_useless(path)}
    sys.path[:] = [path for path in sys.path if path not in useless]
    for path in useless:
        sys.path_importer_cache.pop(path, None)


def _is_useless(path: str) -> bool:
    """Tell whether all modules of a jar are found elsewhere, or it has none; other paths are not useless."""
    if not path.endswith(".jar"):
        return False
    others = [other for other in sys.path if not other.endswith(".jar")]
    return all(PathFinder.find_spec(name, others) for name in _modules_of(Path(path)))


def _modules_of(jar: Path) -> set[str]:
    """Name the modules and packages at the top of a jar; one that cannot be read has none."""
    try:
        with zipfile.ZipFile(jar) as file:
            paths = [PurePosixPath(name) for name in file.namelist() if name.endswith(".py")]
    except (OSError, zipfile.BadZipFile):
        return set()
    return {path.parts[0].removesuffix(".py") for path in paths}
