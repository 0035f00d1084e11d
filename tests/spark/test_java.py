"""What a JVM prints, beside the results of a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STARTS_ONE = """
from pyspark import SparkConf, SparkContext
from ptec_udf.warehouse.java import start_java
start_java(SparkConf())
SparkContext.getOrCreate().accumulator(0)
print("a result")
print(SparkContext._gateway.proc.pid, file=__import__("sys").stderr)
"""


def test_only_results_reach_standard_output_and_the_jvm_ends_before_the_command() -> None:
    environment = os.environ | {"JDK_JAVA_OPTIONS": "-Xlog:gc"}
    done = subprocess.run(
        [sys.executable, "-c", STARTS_ONE], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "a result\n"
    assert "[gc] Using" in done.stderr
    assert "Traceback" not in done.stderr
    pid = next(line for line in done.stderr.splitlines() if line.isdigit())
    assert not Path("/proc", pid).exists(), "the JVM outlives the command, and holds what it has open"
