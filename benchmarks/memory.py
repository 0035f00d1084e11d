"""Memory of a host's Python workers: with the weights and modules that they share, and without.

Run it so::

    python -m benchmarks.memory ARTIFACT --out docs/benchmarks/memory

Memory is the proportional set size (PSS): pages that several processes have in common count for each in equal parts, so
that the sum over processes is what the host really holds. It counts the driver's Python, the daemon and the workers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import DtypeOption, OutOption
from benchmarks.machine import write_results
from benchmarks.memory_of_workers import APART, SHARED
from ptec_udf.model.artifact import load_artifact

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model.")],
    out: OutOption = Path("docs/benchmarks/memory"),
    workers: Annotated[list[int] | None, typer.Option(help="Numbers of workers, at least two.")] = None,
    dtype: DtypeOption = "bfloat16",
) -> None:
    """Measure each number of workers in a session of its own, with sharing and without."""
    numbers = sorted(workers or [1, 2, 4])
    found: dict[str, dict[int, float]] = {SHARED: {}, APART: {}}
    for n in numbers:
        for arm in found:
            command = [sys.executable, "-m", "benchmarks.memory_of_workers", str(artifact), str(n), arm, dtype]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            found[arm][n] = json.loads(ran.stdout)["megabytes"]
            typer.echo(f"{n} workers, {arm}: {found[arm][n]:.0f} MB", err=True)
    write_results(
        out, {"artifact": load_artifact(artifact).model_id, "dtype": dtype, "megabytes": found}, _table(found)
    )


def _table(found: dict[str, dict[int, float]]) -> list[str]:
    """Lay the figures out as Markdown."""
    numbers = sorted(found[SHARED])
    lines = ["| workers | shared, MB | apart, MB |", "|---|---|---|"]
    lines += [f"| {n} | {found[SHARED][n]:.0f} | {found[APART][n]:.0f} |" for n in numbers]
    first, last = numbers[0], numbers[-1]
    further = {arm: (of[last] - of[first]) / (last - first) for arm, of in found.items()}
    return [*lines, f"| each further | {further[SHARED]:.0f} | {further[APART]:.0f} |"]


if __name__ == "__main__":
    app()
