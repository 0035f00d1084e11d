"""Rows per second of the scoring network in torch (SDPA) and OpenVINO, float32 and bfloat16, and how far they differ.

Run it so::

    python -m benchmarks.engines ARTIFACT texts.parquet --column text --out docs/benchmarks/engines

Engines are compared as a run has them: one thread in each of several processes, which score the same batches at the
same time. OpenVINO is left out where it is not installed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
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
from ptec_udf.engine.batching import length_sorted_batches, pad_batch
from ptec_udf.engine.scorer import BATCH_TOKENS, Scorer
from ptec_udf.engine.torch_engine import TorchEngine, load_scorer
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact

TORCH, OPENVINO = "torch SDPA", "OpenVINO"
REFERENCE = f"{TORCH}, float32"

Network = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From ids and mask, each *Shape:* ``(batch, length)``, to logits, *Shape:* ``(batch, n_labels)``."""

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
    torch.set_num_threads(1)
    engine, _, dtype = name.partition(", ")
    scorer = load_scorer(load_artifact(artifact), dtype=torch.float32 if engine == OPENVINO else getattr(torch, dtype))
    if not isinstance(scorer, Scorer) or not isinstance(scorer.engine, TorchEngine):
        raise TypeError("a model with a backbone is needed, this one scores by TF-IDF alone")
    network = _openvino(scorer.engine.networks[0], dtype) if engine == OPENVINO else scorer.engine.logits
    encoded = [text.ids for text in scorer.encoder.encode(texts) if text.ids]
    groups = list(length_sorted_batches([len(ids) for ids in encoded], BATCH_TOKENS))
    batches = [pad_batch([encoded[row] for row in group], scorer.encoder.pad_id) for group in groups]
    with torch.inference_mode():
        for ids, mask in batches:  # a whole pass, so that no shape is new in the timed one
            network(ids, mask)
        started = time.perf_counter()
        logits = [network(ids, mask) for ids, mask in batches]
        return time.perf_counter() - started, np.concatenate(logits)


def _openvino(network: Any, dtype: str) -> Network:
    """Convert the network with any batch size and length, and run it with one thread."""
    import openvino

    network.requires_grad_(False)
    example = torch.randint(5, 100, (3, 17), generator=torch.Generator().manual_seed(0))
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes = (any_size, any_size)
    exported = torch.export.export(network, (example, torch.ones_like(example)), dynamic_shapes=shapes, strict=False)
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # or all processes share one core
    }
    compiled = openvino.Core().compile_model(openvino.convert_model(exported), "CPU", options)
    request = compiled.create_infer_request()
    return lambda ids, mask: request.infer([ids, mask])[0].copy()


def _table(found: dict[str, dict[str, Any]], processes: int) -> list[str]:
    rows = []
    for name, of in found.items():
        apart = of["sigmoids_apart"]
        rows.append([name, show_rates(of["rows_per_second"]), f"{apart['max']:.2g}", f"{apart['p99.9']:.2g}"])
    head = ["engine", "rows/s: median (min to max)", f"sigmoids from those of {REFERENCE}, at most", "99.9 % of them"]
    return [*table(head, rows), "", f"{processes} processes at the same time, one thread each; rows of all processes."]


if __name__ == "__main__":
    run(app)
