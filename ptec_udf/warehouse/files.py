"""Files of a folder, wherever Spark's file systems reach: Hadoop's, this machine's, by a query on Spark Connect."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ptec_udf.text.columns import escape_glob
from ptec_udf.warehouse.remote import is_remote


def list_files(spark: SparkSession, path: str) -> list[tuple[str, int, int]] | None:
    """Data files below a path, at any depth.

    Args:
        spark: the session.
        path: a folder or file, local or of a file system that Spark knows.

    Returns:
        (name relative to ``path``, bytes, modification time in milliseconds) of each file whose name and
        folders do not begin with ``_`` or ``.``; None if there is no such path.

    Raises:
        OSError: if a file or folder of this machine cannot be looked at.
        Py4JError: if one of another file system cannot.
    """
    if is_remote(spark):
        return _list_by_query(spark, path)
    place, system = open_path(spark, path)
    if not system.exists(place):
        return None
    try:
        return [file for file in walk(place, system) if not _is_hidden(file[0])]
    except Py4JJavaError as error:
        if not is_gone(error) or system.exists(place):
            raise
        return None


def qualified(spark: SparkSession, path: str) -> str:
    """The absolute location of a path, file system included."""
    if is_remote(spark):
        return _location_by_query(spark, path)
    place, system = open_path(spark, path)
    return str(system.makeQualified(place).toString())


def are_there(spark: SparkSession, paths: Iterable[str]) -> bool:
    """Whether a Delta table's files, as ``DataFrame.inputFiles`` names them, are all there."""
    if is_remote(spark):
        return _are_there_by_query(spark, paths)
    return all(system.exists(place) for place, system in (open_path(spark, path) for path in paths))


def walk(place: Any, system: Any) -> Iterator[tuple[str, int, int]]:
    """Every file at or below a path that is there, hidden ones too, as ``list_files`` tells it."""
    root = system.makeQualified(place).toUri()
    if is_here(place, system):
        yield from _walk_here(str(root.getPath()))
        return
    files = system.listFiles(place, True)
    while files.hasNext():
        status = files.next()
        name = str(root.relativize(status.getPath().toUri()).getPath()) or str(status.getPath().getName())
        yield name, int(status.getLen()), int(status.getModificationTime())


def _walk_here(path: str) -> Iterator[tuple[str, int, int]]:
    """As ``walk``, on this machine: Hadoop starts a process for each file here, and fails where one has just gone."""
    files = [path]
    if os.path.isdir(path):
        below = os.walk(path, onerror=_raise_unless_gone, followlinks=True)
        files = [os.path.join(folder, name) for folder, _, names in below for name in names]
    for file in files:
        with suppress(FileNotFoundError):
            state = os.stat(file)
            name = os.path.relpath(file, path) if file != path else os.path.basename(path)
            yield name, state.st_size, state.st_mtime_ns // 1_000_000


def _raise_unless_gone(error: OSError) -> None:
    """Raise what ``os.walk`` would pass over, a folder that it may not read."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_hidden(name: str) -> bool:
    """Whether a file's name, or that of a folder of it, begins as those do that Spark passes over."""
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def is_gone(error: Py4JJavaError) -> bool:
    """Whether Hadoop says that a file or folder is not there."""
    return "FileNotFoundException" in error.java_exception.toString()


def is_here(place: Any, system: Any) -> bool:
    """Whether a path is of this machine's own file system."""
    return bool(system.makeQualified(place).toUri().getScheme() == "file")


def open_path(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Hadoop's path object and its file system."""
    assert spark._jvm is not None
    place = spark._jvm.org.apache.hadoop.fs.Path(path)
    return place, place.getFileSystem(_hadoop(spark))


def _hadoop(spark: SparkSession) -> Any:
    """Hadoop's configuration of the session."""
    return spark._jsparkSession.sessionState().newHadoopConf()


def _list_by_query(spark: SparkSession, path: str) -> list[tuple[str, int, int]] | None:
    """As ``list_files``."""
    names = ("path", "length", F.unix_millis("modificationTime").alias("at"))
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    try:
        rows = files.load(escape_glob(path)).select(*names).collect()
    except AnalysisException as error:
        if error.getCondition() != "PATH_NOT_FOUND":
            raise
        return None
    root = path.rstrip("/") + "/"
    return [
        (row["path"].partition(root)[2] or row["path"].rpartition("/")[2], row["length"], row["at"]) for row in rows
    ]


def _location_by_query(spark: SparkSession, path: str) -> str:
    """As ``qualified``, of a folder that holds a file."""
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    row = files.load(escape_glob(path)).select("path").first()
    assert row is not None
    place = path.rstrip("/")
    return str(row["path"]).partition(place)[0] + place


def _are_there_by_query(spark: SparkSession, paths: Iterable[str]) -> bool:
    """As ``are_there``."""
    wanted = list(map(escape_glob, paths))
    try:
        return not wanted or bool(spark.read.format("binaryFile").load(wanted).columns)
    except AnalysisException:
        return False
