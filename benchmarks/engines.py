"""Rows per second of the scoring network in torch (SDPA) and OpenVINO, float32 and bfloat16, and how far they differ.

Run it so::

    python -m benchmarks.engines ARTIFACT texts.parquet --column text --out docs/benchmarks/engines

Engines are compared as a run has them: one thread in each of several processes, which score the same batches at the
same time. OpenVINO is left out where it is not installed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.common import (
    ColumnOption,
    OutOption,
    RepeatsOption,
    RowsOption,
    TextsArgument,
    differences,
    rates,
    read_texts,
    rounds,
    run,
    show_rates,
    table,
)
from benchmarks.machine import write_results
from ptec_udf.engine import openvino_engine, torch_engine
from ptec_udf.engine.encoder import length_sorted_batches, pad_batch
from ptec_udf.engine.scorer import BATCH_TOKENS, Scorer
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact, load_artifact

TORCH, OPENVINO = "torch SDPA", "OpenVINO"
REFERENCE = f"{TORCH}, float32"

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with a backbone.")],
    texts: TextsArgument,
    column: ColumnOption = "text",
    rows: RowsOption = 300,
    repeats: RepeatsOption = 3,
    processes: Annotated[int, typer.Option(min=1, help="Processes that score at the same time.")] = 2,
    out: OutOption = Path("docs/benchmarks/engines"),
) -> None:
    """Score the same batches by all engines, in turn."""
    given = read_texts(texts, column, rows)
    names = [f"{engine}, {dtype}" for engine in _engines() for dtype in ("float32", "bfloat16")]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    logits: dict[str, np.ndarray] = {}
    for at, name in rounds(names, repeats):
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            done = list(pool.map(_score, [name] * processes, [str(artifact)] * processes, [given] * processes))
        logits[name] = done[0][1]
        seconds[name].append(max(taken for taken, _ in done))
        logger.info(f"pass {at} of {repeats}, {name}: {processes * len(given) / seconds[name][-1]:.1f} rows/s")
    found = {
        name: {
            "rows_per_second": rates(processes * len(given), seconds[name]),
            "sigmoids_apart": differences(logits[name], logits[REFERENCE]),
        }
        for name in names
    }
    facts = {"artifact": load_artifact(artifact).model_id, "rows": len(given), "processes": processes}
    write_results(out, {**facts, "engines": found}, _table(found, processes))


def _engines() -> list[str]:
    if importlib.util.find_spec("openvino"):
        return [TORCH, OPENVINO]
    logger.info("OpenVINO is left out: it is not installed")
    return [TORCH]


def _score(name: str, artifact: str, texts: Sequence[str]) -> tuple[float, np.ndarray]:
    """Score texts with one thread; return the seconds of a warm pass, and logits in the order of the batches."""
    engine, _, dtype = name.partition(", ")
    scorer = _load(load_artifact(artifact), engine, dtype)
    scorer.engine.prepare("cpu", 1)
    encoded = [text.ids for text in scorer.encoder.encode(texts) if text.ids]
    groups = list(length_sorted_batches([len(ids) for ids in encoded], BATCH_TOKENS))
    batches = [pad_batch([encoded[row] for row in group]) for group in groups]
    for batch in batches:  # a whole pass, so that no shape is new in the timed one
        scorer.engine.logits(*batch)
    started = time.perf_counter()
    logits = [scorer.engine.logits(*batch) for batch in batches]
    return time.perf_counter() - started, np.concatenate(logits)


def _load(artifact: Artifact, engine: str, dtype: str) -> Scorer:
    if engine == OPENVINO:
        folder = openvino_engine.convert_artifact(artifact, artifact.folder or Path())
        return openvino_engine.load_scorer(artifact, folder, dtype=dtype)
    scorer = torch_engine.load_scorer(artifact, dtype=dtype)
    if not isinstance(scorer, Scorer):
        raise TypeError("a model with a backbone is needed, this one scores by TF-IDF alone")
    return scorer


def _table(found: dict[str, dict[str, Any]], processes: int) -> list[str]:
    rows = []
    for name, of in found.items():
        apart = of["sigmoids_apart"]
        rows.append([name, show_rates(of["rows_per_second"]), f"{apart['max']:.2g}", f"{apart['p99.9']:.2g}"])
    head = ["engine", "rows/s: median (min to max)", f"sigmoids from those of {REFERENCE}, at most", "99.9 % of them"]
    return [*table(head, rows), "", f"{processes} processes at the same time, one thread each; rows of all processes."]


if __name__ == "__main__":
    run(app)
