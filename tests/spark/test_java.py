"""What a JVM prints, beside the results of a command."""

from __future__ import annotations

import os
import subprocess
import sys

STARTS_ONE = """
from pyspark import SparkConf
from ptec_udf.warehouse.java import start_java
start_java(SparkConf())
print("a result")
"""


def test_only_results_reach_standard_output() -> None:
    environment = os.environ | {"JDK_JAVA_OPTIONS": "-Xlog:gc"}
    done = subprocess.run(
        [sys.executable, "-c", STARTS_ONE], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "a result\n"
    assert "[gc] Using" in done.stderr
