"""Workers use little memory: the daemon has imported their modules, and freed memory is returned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from ptec_udf.engine.worker import trim_heap
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


def test_daemon_has_imported_the_code_of_common_models(tmp_path: Path) -> None:
    folders = [tiny_artifact(tmp_path, *form) for form in (("bert", "deep"), ("mpnet", "deep"), ("llama", "input"))]
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *folders], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_freed_memory_is_returned_to_the_system() -> None:
    def resident() -> int:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:"))

    made = [torch.ones(20_000, dtype=torch.uint8) for _ in range(10_000)]
    kept = made[::100]
    del made
    before = resident()
    trim_heap()
    assert before - resident() > 100
    assert len(kept) == 100
