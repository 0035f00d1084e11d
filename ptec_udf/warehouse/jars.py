"""Jars of Spark's packages: found once for a warehouse, and kept off the path of Python."""

from __future__ import annotations

import json
import sys
import zipfile
import zipimport
from functools import lru_cache
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
    """Take jars without Python code of their own off the path of Python, here and in workers.

    Spark puts the jars of ``spark.jars.packages`` there, since some hold Python code too. Every worker then reads the
    directory of each jar twice and keeps both: with Delta's, .8 s and 75 MB a worker. On this machine a jar also goes
    if all of its Python packages are installed besides, as that of Delta's is; another host may lack them.
    """
    names = getattr(context, "_python_includes", None) or []  # there is no public way to it
    root, is_here = SparkFiles.getRootDirectory(), (context.master or "").startswith("local")
    names[:] = [name for name in names if not _is_useless(str(Path(root, name)), is_here)]
    forget_jars()


def forget_jars() -> None:
    """Take jars without Python code of their own off this process's path; Spark puts one of its own there."""
    useless = {path for path in sys.path if _is_useless(path, is_here=True)}
    sys.path[:] = [path for path in sys.path if path not in useless]
    for path in useless:
        sys.path_importer_cache.pop(path, None)
        getattr(zipimport, "_zip_directory_cache", {}).pop(path, None)


def _is_useless(path: str, is_here: bool) -> bool:
    """Tell whether a path is a jar without Python code or, where it is used here, without any that is not installed."""
    code = _code_in(path) if path.endswith(".jar") else None
    if code is None:
        return False
    tops = {name.partition("/")[0] for name in code}
    files = [top if top.endswith((".py", ".pyc")) else f"{top}/__init__.py" for top in tops]
    others = [Path(other) for other in sys.path if not other.endswith((".jar", ".zip"))]
    # A package with a file of its own is taken whole from one place; those without may be in several.
    return not code or (is_here and all(name in code and any((at / name).is_file() for at in others) for name in files))


@lru_cache
def _code_in(jar: str) -> frozenset[str] | None:
    """Name the Python files of a jar, which a session asks for by its name and by its path; None: it is no jar."""
    try:
        with zipfile.ZipFile(jar) as file:
            return frozenset(name for name in file.namelist() if name.endswith((".py", ".pyc")))
    except (OSError, zipfile.BadZipFile):
        return None
