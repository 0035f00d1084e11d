"""What a JVM prints, beside the results of a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STARTS_ONE = """
import os
import signal
from pyspark import SparkConf, SparkContext
from ptec_udf.warehouse.java import start_java
start_java(SparkConf())
spark = SparkContext.getOrCreate()
spark.accumulator(0)
if (child := os.fork()) == 0:
    raise SystemExit(0)
signal.alarm(60)
assert os.waitpid(child, 0)[1] == 0
assert spark.parallelize(range(3)).count() == 3
print("a result")
print(SparkContext._gateway.proc.pid, file=__import__("sys").stderr)
"""


def test_only_results_reach_standard_output_and_the_jvm_ends_before_the_command(tmp_path: Path) -> None:
    environment = os.environ | {"JDK_JAVA_OPTIONS": "-Xlog:gc"}
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as to_out, err.open("w") as to_err:  # of pipes the end would come with the JVM's
        subprocess.run([sys.executable, "-c", STARTS_ONE], env=environment, stdout=to_out, stderr=to_err, check=True)
    pid = next(line for line in err.read_text().splitlines() if line.isdigit())
    assert not Path("/proc", pid).exists(), "the JVM outlives the command, and holds what it has open"
    assert out.read_text() == "a result\n"
    assert "[gc] Using" in err.read_text()
    assert "Traceback" not in err.read_text()
