"""What a JVM prints, beside the results of a command."""

from __future__ import annotations

import subprocess
import sys

STARTS_ONE = """
import subprocess
from ptec_udf.warehouse.java import output_for_results
print("before")
with output_for_results():
    subprocess.run(["echo", "a warning"])
print("after")
"""


def test_only_results_reach_standard_output() -> None:
    done = subprocess.run([sys.executable, "-c", STARTS_ONE], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("before\nafter\n", "a warning\n")
