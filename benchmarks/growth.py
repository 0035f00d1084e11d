"""Seconds of nights of growing size: of the first, which scores all texts, and of the next, when one in 100 changed.

Run it so::

    python -m benchmarks.growth ARTIFACT --out docs/benchmarks/growth

``--million`` adds a night of a million rows. Companies are made up: each has another text, of 4 to 12 words. Each size
has a fresh warehouse in a session of its own, and both of its nights run there.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import DtypeOption, MasterOption, OutOption, run, table
from benchmarks.machine import write_results
from benchmarks.nights import Nights, write_version
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact

CHANGED_ONE_IN = 100

_MILLION = 1_000_000
_WORDS = (
    "we build software machines for farms banks hospitals and sell them in many countries with new tools that help "
    "teams plan payments energy travel music food insurance data cloud robots chips medicine schools homes cars ships"
)

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model.")],
    sizes: Annotated[list[int] | None, typer.Option("--rows", help="Rows of a night, at least 100.")] = None,
    million: Annotated[bool, typer.Option("--million", help="Add a night of a million rows.")] = False,
    dtype: DtypeOption = "bfloat16",
    master: MasterOption = "local[*,4]",
    out: OutOption = Path("docs/benchmarks/growth"),
) -> None:
    """Run two nights of each size."""
    found = {}
    for n_rows in [*(sizes or [10_000, 100_000]), *([_MILLION] if million else [])]:
        found[n_rows] = _two_nights(artifact, n_rows, dtype, master)
        first, next_one = (night["seconds"] for night in found[n_rows])
        logger.info(f"{n_rows} rows: {first:.0f} s, and after changes {next_one:.0f} s")
    model_id = load_artifact(artifact).model_id
    write_results(out, {"artifact": model_id, "dtype": dtype, "master": master, "nights": found}, _table(found))


def _two_nights(artifact: Path, n_rows: int, dtype: str, master: str) -> list[dict[str, Any]]:
    """Score made-up companies, and score again when some have other texts."""
    texts = made_up(n_rows)
    changed = [f"{text} again" if at % CHANGED_ONE_IN == 0 else text for at, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        files = [write_version(Path(folder, f"{at}.parquet"), of) for at, of in enumerate((texts, changed))]
        return Nights(str(artifact), files, master, {"dtype": dtype}).run()


def made_up(n: int) -> list[str]:
    """Make up texts, of which no two are equal: each has its number."""
    draw, words = random.Random(0), _WORDS.split()
    return [f"{at} {' '.join(draw.choices(words, k=draw.randint(3, 11)))}" for at in range(n)]


def _table(found: Mapping[int, Sequence[dict[str, Any]]]) -> list[str]:
    """Lay the figures out as Markdown."""
    head = ["rows", "first night, s", "of that scoring, s", "s per 1,000 rows", "next night, s", "of that scoring, s"]
    rows = []
    for n, (first, later) in found.items():
        cells = [f"{n:,}", *(f"{first[name]:.1f}" for name in ("seconds", "seconds_scoring"))]
        cells += [f"{1000 * first['seconds'] / n:.2f}"]
        cells += [f"{later[name]:.1f}" for name in ("seconds", "seconds_scoring")]
        rows.append([*cells, f"{100 * later['seconds'] / first['seconds']:.1f} %"])
    lines = table([*head, "next night's share of the first"], rows)
    return [*lines, "", f"In the next night one text in {CHANGED_ONE_IN} has changed."]


if __name__ == "__main__":
    run(app)
