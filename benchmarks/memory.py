"""Memory of a host's Python workers: with the weights and modules that they share, and without.

Run it so::

    python -m benchmarks.memory ARTIFACT --out docs/benchmarks/memory

Memory is the proportional set size (PSS): pages that several processes have in common count for each in equal parts, so
that the sum over processes is what the host really holds. It counts the driver's Python, the daemon and the workers,
after their tasks, and looks every fifth of a second while they score.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import DtypeOption, OutOption, run
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
    found: dict[str, dict[int, dict[str, float]]] = {SHARED: {}, APART: {}}
    for n in numbers:
        for arm in found:
            command = [sys.executable, "-m", "benchmarks.memory_of_workers", str(artifact), str(n), arm, dtype]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            found[arm][n] = json.loads(ran.stdout)
            typer.echo(f"{n} workers, {arm}: {found[arm][n]['held']:.0f} MB", err=True)
    write_results(
        out, {"artifact": load_artifact(artifact).model_id, "dtype": dtype, "megabytes": found}, _table(found)
    )


def _table(found: dict[str, dict[int, dict[str, float]]]) -> list[str]:
    """Lay the figures out as Markdown."""
    numbers = sorted(found[SHARED])
    first, last = numbers[0], numbers[-1]
    columns = [(arm, when) for arm in found for when in ("held", "at most")]
    lines = [
        "| workers | shared, MB | while they score, at most | apart, MB | while they score, at most |",
        "|---|---|---|---|---|",
    ]
    rows = [[str(n), *(f"{found[arm][n][when]:.0f}" for arm, when in columns)] for n in numbers]
    further = [(found[arm][last][when] - found[arm][first][when]) / (last - first) for arm, when in columns]
    return [
        *lines,
        *(f"| {' | '.join(row)} |" for row in [*rows, ["each further", *(f"{one:.0f}" for one in further)]]),
    ]


if __name__ == "__main__":
    run(app)
