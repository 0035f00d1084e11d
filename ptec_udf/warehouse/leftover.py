"""What a killed process has left of a table that it was creating, removed by one process at a time."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from ptec_udf.warehouse.files import is_gone, is_here, list_files, open_path, walk
from ptec_udf.warehouse.remote import is_remote

_MARK = ".being_removed"

# Hadoop's words for a file that another process has made, or is about to, right after one has looked for it.
_TAKEN = ("FileAlreadyExistsException", "AlreadyBeingCreatedException")


def remove_leftover(spark: SparkSession, path: str, older_than: timedelta) -> bool:
    """Remove a folder that holds no data file and has not changed for a time; say whether it did. Connect cannot.

    A mark beside the folder lets one process at a time look and remove, unless it stands still between the two for
    longer than ``older_than``: another one could have removed the folder, and made its table there, meanwhile.

    Raises:
        OSError, Py4JError: if the folder cannot be read or removed.
    """
    if is_remote(spark):
        return False
    place, system = open_path(spark, path)
    mark = place.suffix(_MARK)
    if not _claim(mark, system, older_than):
        return False
    try:
        return not list_files(spark, path) and _is_still(place, system, older_than) and bool(system.delete(place, True))
    finally:
        system.delete(mark, False)


def _claim(mark: Any, system: Any, older_than: timedelta) -> bool:
    """Make a mark that one process at a time can have. One that a killed process has left goes, for the next try."""
    try:
        if is_here(mark, system):  # Hadoop looks before it writes here, which two processes may do at once
            os.close(os.open(str(mark.toUri().getPath()), os.O_CREAT | os.O_EXCL, 0o644))
            return True
        if system.createNewFile(mark):
            return True
    except FileExistsError:
        pass
    except Py4JJavaError as error:
        if not any(name in error.java_exception.toString() for name in _TAKEN):
            raise
    if _is_still(mark, system, older_than):
        system.delete(mark, False)
    return False


def _is_still(place: Any, system: Any, older_than: timedelta) -> bool:
    """Whether a file or folder is there, and neither it nor a file in it has changed for a time. On S3 no folder is."""
    try:
        changed = [system.getFileStatus(place).getModificationTime(), *(at for _, _, at in walk(place, system))]
    except Py4JJavaError as error:
        if not is_gone(error):
            raise
        return False  # somebody has removed it, or is about to
    return time.time() - max(changed) / 1000 >= older_than.total_seconds()
