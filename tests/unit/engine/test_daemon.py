"""The daemon has imported the modules of its workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.tiny import tiny_artifact

PROGRAM = """
import sys
import ptec_udf.engine.daemon
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model.artifact import load_artifact
before = set(sys.modules)
for folder in sys.argv[1:]:
    load_scorer(load_artifact(folder)).score(["Name: a. We sell solar power"])
print([name for name in set(sys.modules) - before if name.startswith("transformers.models.")])
"""


def test_code_of_common_models_is_imported(tmp_path: Path) -> None:
    folders = [tiny_artifact(tmp_path, *form) for form in (("bert", "deep"), ("mpnet", "deep"), ("llama", "input"))]
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *folders], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]"
