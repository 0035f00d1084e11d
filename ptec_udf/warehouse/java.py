"""The JVM that Spark runs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptec_udf.errors import PtecError

_MIN_JAVA = 17


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


@contextmanager
def output_for_results() -> Iterator[None]:
    """Let a JVM that starts now write to standard error alone.

    A JVM prints warnings of its own to standard output, where a caller of ours reads a result.
    """
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)
