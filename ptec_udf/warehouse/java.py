"""The JVM that a Spark session of this package runs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

from ptec_udf.errors import PtecError

_MIN_JAVA = 17


def check_java() -> None:
    """Check the Java that Spark will start.

    Raises:
        PtecError: if there is none or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    remedy = f"install Java {_MIN_JAVA} or newer (on Debian: apt-get install openjdk-{_MIN_JAVA}-jre-headless)"
    if shutil.which(java) is None:
        where = f"JAVA_HOME={home} has none" if home else "the PATH has none and JAVA_HOME is not set"
        raise PtecError(f"Spark needs Java: {where}; {remedy}")
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', output)
    if found is None or int(found.group(1)) < _MIN_JAVA:
        version = found.group(1) if found else "of an unknown version"
        raise PtecError(f"Spark needs Java {_MIN_JAVA} or newer: {java} is Java {version}; {remedy}")


def start_java(conf: SparkConf) -> None:
    """Start the JVM, unless it runs; its standard output goes to standard error, since results go to ours."""
    if SparkContext._gateway is None:
        SparkContext._ensure_initialized(gateway=launch_gateway(conf, {"stdout": 2}))
