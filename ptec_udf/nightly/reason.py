"""Why Spark failed, in words that may be shown."""

from __future__ import annotations

import re

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from ptec_udf.errors import hide_partitions, says_full_disk
from ptec_udf.nightly.rows import STAGING_LOST

_QUOTING_NOTHING = ("FAILED_READ_FILE", "PYTHON_EXCEPTION", "TASK_WRITE_FAILED")  # they name a file, or wrap an error


def reason_of(error: PySparkException | Py4JError) -> str:
    """Return why Spark failed: only the kind of its own message, which may quote a company's text."""
    if STAGING_LOST in str(error):
        return STAGING_LOST
    message = _before_a_quote(str(error))
    ours = re.search(r"^ptec_udf\.errors\.(\w+: .*)", message, re.MULTILINE)  # the end of a worker's traceback
    if ours:
        return str(ours[1])
    if says_full_disk(message):
        return "no room left on a disk"
    if re.search(r"java\.lang\.OutOfMemoryError(?!: unable to create)", message):  # a thread, which takes no heap
        return "too little memory for Java (spark.driver.memory, spark.executor.memory), by a text of many MB, say"
    missing = re.search(r"^ModuleNotFoundError: No module named '([\w.]+)'", message, re.MULTILINE)
    if missing:
        return f"workers that lack the Python module {missing[1]!r} (docs/start/cluster.md)"
    unreadable = re.search(r"\[FAILED_READ_FILE\.\w+\] Encountered error while reading file (.+?)\.(?:\s|$)", message)
    if unreadable:
        return f"a file that cannot be read, {hide_partitions(unreadable[1])}"
    return (error.getCondition() if isinstance(error, PySparkException) else None) or type(error).__name__


def _before_a_quote(message: str) -> str:
    """Return a message up to where it may quote a value, which can be worded like anything that is looked for."""
    for condition in re.finditer(r"(?:^|: )\[([A-Z][A-Z0-9_]+)(?:\.[A-Z0-9_]+)?\] ", message, re.MULTILINE):
        if condition[1] not in _QUOTING_NOTHING:
            return message[: condition.start()]
    return message


def worker_died(error: PySparkException | Py4JError) -> bool:
    """Return whether a job ended since workers or executors died, each time that Spark tried a task of it."""
    return bool(re.search(r"Python worker exited unexpectedly|ExecutorLostFailure", str(error)))
