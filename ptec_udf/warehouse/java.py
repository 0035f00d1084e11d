"""The JVM of a command: checked before it starts; what it prints goes to standard error, without the usual noise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

from ptec_udf.errors import PtecError

_MIN_JAVA = 17
_NOISE = re.compile(
    rb":: |\t(?!at )|confs: |Ivy Default|The jars for the packages|downloading http|.* added as a dependency"
    rb"|You probably access|WARNING: Using incubator modules|NOTE: Picked up|\s*$"
)
"""Beginnings of lines of Spark's resolver and of the JVM's start that no user acts on."""


def check_java() -> None:
    """Raise PtecError if the Java that Spark will start is missing or too old."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    remedy = f"install Java {_MIN_JAVA} or newer (on Debian: apt-get install openjdk-{_MIN_JAVA}-jre-headless)"
    if shutil.which(java) is None:
        where = f"JAVA_HOME={home} has none" if home else "the PATH has none and JAVA_HOME is not set"
        raise PtecError(f"Spark needs Java: {where}; {remedy}")
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', output)
    if found is None or int(found.group(1)) < _MIN_JAVA:
        raise PtecError(f"Spark needs Java {_MIN_JAVA} or newer: {java} is Java {found and found[1]}; {remedy}")


def start_java(conf: SparkConf) -> None:
    """Start the JVM, unless it runs; its output goes to standard error, since results go to standard output."""
    if SparkContext._gateway is not None:
        return
    read_end, write_end = os.pipe()
    # Where a JVM of our own would write, whatever becomes of sys.stderr.
    threading.Thread(target=_pass_on, args=(read_end, os.dup(2)), daemon=True).start()
    try:
        gateway = launch_gateway(conf, {"stdout": write_end, "stderr": write_end})
    finally:
        os.close(write_end)  # the JVM has its own, with which the thread ends
    SparkContext._ensure_initialized(gateway=gateway)


def _pass_on(read_end: int, to: int) -> None:
    with os.fdopen(read_end, "rb") as lines, os.fdopen(to, "wb", buffering=0) as standard_error:
        for line in lines:
            if not _NOISE.match(line):
                with suppress(OSError):  # closed; the JVM must be able to write all the same
                    standard_error.write(line)
