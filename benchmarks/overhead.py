"""What a night costs beyond its arithmetic: the whole ``ptec score``, and a loop without Spark over the same texts.

Run it so::

    python -m benchmarks.overhead ARTIFACT texts.parquet --column text --out docs/benchmarks/overhead

The loop has a process with one thread for each slot of the night, and the texts dealt out evenly. Equal texts are given
once, to both. Each run is a process of its own, and they take turns. A night's workers load the model while it scores,
so its seconds of scoring stand beside those of the loop with its load; with ``--warm`` a small night of other texts
comes first in the same session, after which they have loaded it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.common import (
    BatchOption,
    ColumnOption,
    DtypeOption,
    OutOption,
    RepeatsOption,
    RowsOption,
    TextsArgument,
    ratios,
    read_texts,
    rounds,
    run,
    shown,
    spread,
    table,
)
from benchmarks.machine import write_results
from benchmarks.nights import Nights, texts_of, write_version
from benchmarks.plain_loop import Loop
from ptec_udf.engine.scorer import BATCH_TOKENS
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact

LOOP, NIGHT = "loop", "night"
_ROWS_OF_A_SLOT = 16
_NAMES = {
    (LOOP, "seconds_scoring"): "loop, from the first row to the last",
    (LOOP, "seconds"): "loop, with its start and load",
    (NIGHT, "seconds_scoring"): "night, its scoring",
    (NIGHT, "seconds"): "night, whole",
}

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with a backbone.")],
    texts: TextsArgument,
    column: ColumnOption = "text",
    rows: RowsOption = 4000,
    repeats: RepeatsOption = 3,
    slots: Annotated[int | None, typer.Option(help="Processes, and slots of the night; all cores by default.")] = None,
    dtype: DtypeOption = "bfloat16",
    batch_tokens: BatchOption = BATCH_TOKENS,
    warm: Annotated[bool, typer.Option("--warm", help="Let a small night load the model first.")] = False,
    out: OutOption = Path("docs/benchmarks/overhead"),
) -> None:
    """Run the loop and the night in turn."""
    model, n_slots = load_artifact(artifact), slots or len(os.sched_getaffinity(0))
    # Clean values, so that a night makes of them what the loop is given.
    values = list(dict.fromkeys(" ".join(text.split()) for text in read_texts(texts, column, rows)))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        night_file = write_version(place / "night.parquet", values)
        loop_file = write_version(place / "loop.parquet", texts_of(str(artifact), values))
        others = [f"other {value}" for value in values[: _ROWS_OF_A_SLOT * n_slots]]
        small = [write_version(place / "small.parquet", others)] if warm else []
        engine = {"dtype": dtype, "batch_tokens": batch_tokens}
        nights = Nights(str(artifact), [*small, night_file], f"local[{n_slots},4]", engine)
        loop = Loop(str(artifact), loop_file, n_slots, dtype, batch_tokens)
        runs = _in_turn({LOOP: loop.run, NIGHT: lambda: nights.run()[-1]}, repeats)
    if runs[LOOP][0]["tokens"] != runs[NIGHT][0]["tokens"]:
        logger.warning("the night read other tokens than the loop, see results.json: some texts were not clean")
    seconds = {name: [run[part] for run in runs[way]] for (way, part), name in _NAMES.items()}
    about = {"artifact": model.model_id, **engine, "slots": n_slots, "warm": warm, "rows": len(values)}
    write_results(out, {**about, "runs": runs}, _table(seconds, len(values)))


def _in_turn(ways: dict[str, Callable[[], dict[str, Any]]], repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Run each way so often, and keep what each run says of itself."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for at, name in rounds(ways, repeats):
        runs[name].append(ways[name]())
        logger.info(f"run {at} of {repeats}, {name}: {runs[name][-1]['seconds']:.1f} s")
    return runs


def _table(seconds: Mapping[str, Sequence[float]], n_rows: int) -> list[str]:
    """Lay the figures out as Markdown."""
    rows, with_load = ([*seconds.values()][at] for at in (0, 1))
    cells = [
        [
            name,
            shown(spread(of), 1),
            f"{n_rows / spread(of)['median']:.1f}",
            shown(ratios(of, rows)),
            shown(ratios(of, with_load)),
        ]
        for name, of in seconds.items()
    ]
    head = ["what", "seconds", "rows/s", "times the loop's rows", "times the loop with its load"]
    return [*table(head, cells), "", "Medians of runs, with the least and the greatest."]


if __name__ == "__main__":
    run(app)
