"""The JVM that Spark runs on."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

from ptec_udf.errors import PtecError

_MIN_JAVA = 17
_END_S = 15.0


def check_java() -> None:
    """Look for a Java that Spark can run on, where Spark looks for it.

    Raises:
        PtecError: if there is none, or one that is too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    advice = f"install Java {_MIN_JAVA} or newer (on Debian: apt-get install openjdk-{_MIN_JAVA}-jre-headless)"
    if shutil.which(java) is None:
        where = f"in JAVA_HOME={home}" if home else "on the PATH, and JAVA_HOME is not set"
        raise PtecError(f"Spark needs Java, and there is none {where}: {advice}")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found.group(1)) < _MIN_JAVA:
        version = found.group(1) if found else "of an unknown version"
        raise PtecError(f"Spark needs Java {_MIN_JAVA} or newer, and {java} is Java {version}: {advice}")


def start_java(conf: SparkConf) -> None:
    """Start the JVM that Spark will run in, unless there is one; its standard output is our standard error.

    A JVM prints warnings of its own to standard output, where a caller of ours reads a result.
    """
    if SparkContext._gateway is None:
        gateway = launch_gateway(conf, {"stdout": 2})
        SparkContext._ensure_initialized(gateway=gateway)
        atexit.register(_end_java, gateway, os.getpid())


def _end_java(gateway: Any, owner: int) -> None:
    """Let the JVM end before this process does: until then it holds the warehouse, and the next command would wait.

    A process that was forked from ``owner`` leaves it alone.
    """
    if os.getpid() != owner:
        return
    with suppress(Exception, KeyboardInterrupt):
        # Python's ends first, which else tell that the other one is gone. Nothing here waits for an answer of Java's.
        if SparkContext._active_spark_context is not None:
            SparkContext._active_spark_context._accumulatorServer.shutdown()
        gateway.shutdown()
    with suppress(OSError, subprocess.TimeoutExpired, KeyboardInterrupt):
        gateway.proc.stdin.close()
        gateway.proc.wait(_END_S)
