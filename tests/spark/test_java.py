"""The JVM of a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptec_udf.errors import PtecError
from ptec_udf.warehouse.java import check_java

STARTS_ONE = """
from pyspark import SparkConf, SparkContext
from ptec_udf.warehouse.java import start_java
start_java(SparkConf())
assert SparkContext.getOrCreate().parallelize(range(3)).count() == 3
print("a result")
"""


def test_output_of_the_jvm_goes_to_standard_error(tmp_path: Path) -> None:
    environment = os.environ | {"JDK_JAVA_OPTIONS": "-Xlog:gc"}
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as to_out, err.open("w") as to_err:
        subprocess.run([sys.executable, "-c", STARTS_ONE], env=environment, stdout=to_out, stderr=to_err, check=True)
    assert out.read_text() == "a result\n"
    assert "[gc] Using" in err.read_text()
    assert "NOTE: Picked up" not in err.read_text()  # which every JVM with such options prints
    assert "Traceback" not in err.read_text()


class TestCheck:
    def test_names_a_missing_java(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        with pytest.raises(PtecError, match=f"JAVA_HOME={tmp_path} has none; install Java 17"):
            check_java()
        monkeypatch.delenv("JAVA_HOME")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(PtecError, match="the PATH has none"):
            check_java()

    def test_names_an_old_java(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
        java.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        with pytest.raises(PtecError, match=f"{java} is Java 11; install Java 17"):
            check_java()
