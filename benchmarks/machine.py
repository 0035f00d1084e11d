"""The machine and the code of a measurement, and where its results go."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ptec_udf.engine.device import has_bfloat16


def machine() -> dict[str, Any]:
    """Name the CPU, what decides how fast torch is on it, and the commit."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    return {
        "CPU": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16 in hardware": "yes" if has_bfloat16("cpu") else "no",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
    }


def write_results(folder: Path, results: dict[str, Any], table: list[str]) -> None:
    """Write ``results.json`` and ``table.md``, both with the machine.

    Args:
        folder: made if it is missing.
        results: ready for JSON.
        table: lines of Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = machine()
    (folder / "results.json").write_text(f"{json.dumps({'machine': found, **results}, indent=1)}\n", encoding="utf-8")
    line = ", ".join(f"{name} {value}" for name, value in found.items())
    (folder / "table.md").write_text("\n".join([*table, "", f"Measured on: {line}.", ""]), encoding="utf-8")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
