"""Workers hold little memory: the daemon has imported what they need, and they give back what they freed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from ptec_udf.engine.worker import trim_heap
from tests.tiny import tiny_artifact

_PROGRAM = """
import sys
import ptec_udf.engine.daemon
from pathlib import Path
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model.artifact import load_artifact
before = set(sys.modules)
for folder in sys.argv[1:]:
    load_scorer(load_artifact(Path(folder))).score(["Name: a. We sell solar power"])
print([name for name in set(sys.modules) - before if name.startswith("transformers.models.")])
"""


def test_a_worker_imports_no_model_s_code_that_the_daemon_could_have(tmp_path: Path) -> None:
    forms = (("bert", "deep"), ("mpnet", "deep"), ("llama", "input"))
    folders = [tiny_artifact(tmp_path, family, kind) for family, kind in forms]
    ran = subprocess.run([sys.executable, "-c", _PROGRAM, *folders], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def _resident() -> int:
    """Memory of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:"))


def test_what_was_freed_between_things_that_are_kept_is_given_back() -> None:
    made = [torch.ones(20_000, dtype=torch.uint8) for _ in range(10_000)]
    kept = made[::100]
    del made
    before = _resident()
    trim_heap()
    assert before - _resident() > 100
    assert len(kept) == 100
