"""Rows per second of one scoring network in torch as a night runs it, compiled, and in other engines.

Run it so::

    python -m benchmarks.engines ARTIFACT texts.parquet --column text --out docs/benchmarks/engines

All run the same batches, from ids to logits, in one process with equally many threads, and take turns. Their sigmoids
are compared with those of eager torch in float32. Some texts are also scored alone: where int8 takes its scale from a
whole batch, a text's scores depend on what it is scored with. What is not installed, or does not take the model, is a
row that says why.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.common import (
    Batch,
    BatchOption,
    ColumnOption,
    OutOption,
    RepeatsOption,
    RowsOption,
    TextsArgument,
    in_turn,
    load,
    ratios,
    read_texts,
    run,
    shown,
    spread,
    table,
    use_threads,
)
from benchmarks.machine import write_results
from benchmarks.runners import EAGER, ENGINES, Engine, Run
from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.device import BATCH_TOKENS
from ptec_udf.engine.torch_engine import pad
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact, load_artifact

BASE, REFERENCE = f"{EAGER}, bfloat16", f"{EAGER}, float32"
_LONGEST_REASON = 160

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Work:
    """What is scored.

    Attributes:
        batches: ids and mask, each *Shape:* ``(batch, length)``.
        alone: places of the texts that are also scored alone, in the order of the batches' rows.
        singles: these texts, each as a batch.
    """

    batches: Sequence[Batch]
    alone: Sequence[int]
    singles: Sequence[Batch]

    @property
    def n_rows(self) -> int:
        """Count the texts."""
        return sum(len(ids) for ids, _ in self.batches)


@dataclass(frozen=True)
class Ready:
    """An engine that has the network, and has run once over everything.

    Attributes:
        run: runs a batch.
        seconds: loading, converting or compiling, and the first batch.
        probabilities: sigmoids, *Shape:* ``(n_rows, n_labels)``.
        alone: those of texts scored alone, *Shape:* ``(n_alone, n_labels)``.
        megabytes: size of the installed packages.
    """

    run: Run
    seconds: float
    probabilities: np.ndarray
    alone: np.ndarray
    megabytes: float


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with a backbone.")],
    texts: TextsArgument,
    column: ColumnOption = "text",
    rows: RowsOption = 500,
    repeats: RepeatsOption = 5,
    batch_tokens: BatchOption = BATCH_TOKENS,
    threads: Annotated[int, typer.Option(help="Threads of each engine.")] = 2,
    alone: Annotated[int, typer.Option(help="So many texts are also scored alone.")] = 20,
    engine: Annotated[list[str] | None, typer.Option(help="Its name, beside eager torch; all by default.")] = None,
    out: OutOption = Path("docs/benchmarks/engines"),
) -> None:
    """Run the same batches in all engines, in turn, after a first pass of each."""
    model, given = load_artifact(artifact), read_texts(texts, column, rows)
    n_threads = use_threads(threads)
    work = _work(model, given, batch_tokens, alone)
    engines = _chosen(engine)
    ready, reasons = _all_ready(engines, model, n_threads, work)
    ways = {name: partial(_run_all, one.run, work.batches) for name, one in ready.items()}
    _, seconds = in_turn(ways, work.n_rows, repeats)
    found = [_found(one, ready, seconds, reasons, work) for one in engines]
    about = {"artifact": model.model_id, "batch_tokens": batch_tokens, "threads": n_threads, "repeats": repeats}
    counts = {"rows": work.n_rows, "batches": len(work.batches), "scored_alone": len(work.alone)}
    write_results(out, {**about, **counts, "engines": found}, _table(found, n_threads))


def _work(model: Artifact, texts: Sequence[str], batch_tokens: int, n_alone: int) -> Work:
    """Make the batches that scoring makes, and batches of one text for some that are spread over all."""
    encoder = load(model, "float32", batch_tokens).encoder
    encoded = [text.ids for text in encoder.encode(texts) if text.ids]
    groups = list(length_sorted_batches([len(ids) for ids in encoded], batch_tokens))
    in_order = [encoded[row] for group in groups for row in group]
    alone = sorted({int(at) for at in np.linspace(0, len(in_order) - 1, n_alone)})
    return Work(
        batches=[pad([encoded[row] for row in group], encoder.pad_id) for group in groups],
        alone=alone,
        singles=[pad([in_order[at]], encoder.pad_id) for at in alone],
    )


def _chosen(names: Sequence[str] | None) -> list[Engine]:
    """Return the engines of these names, with eager torch before them.

    Raises:
        BadParameter: for a name that no engine has.
    """
    known = dict.fromkeys(engine.name for engine in ENGINES)
    if unknown := set(names or []) - set(known):
        raise typer.BadParameter(f"an engine must be one of {list(known)}, was: {', '.join(sorted(unknown))}")
    return [engine for engine in ENGINES if not names or engine.name in {EAGER, *names}]


def _all_ready(
    engines: Sequence[Engine], model: Artifact, threads: int, work: Work
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Make each engine ready; of those that fail say why."""
    ready, reasons = {}, {}
    for engine in engines:
        logger.info(f"makes ready: {engine.way}")
        try:
            ready[engine.way] = _ready(engine, model, threads, work)
        except Exception as error:  # whatever a converter or compiler raises is what the table tells
            reasons[engine.way] = _reason(error)
            logger.info(f"left out, {engine.way}: {reasons[engine.way]}")
    return ready, reasons


def _ready(engine: Engine, model: Artifact, threads: int, work: Work) -> Ready:
    """Make an engine ready and run it over everything once."""
    megabytes = engine.megabytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what their packages will drop one day
        started = time.perf_counter()
        run = engine.build(model, threads)
        _run_all(run, work.batches[:1])
        seconds = time.perf_counter() - started
        alone = np.concatenate(_run_all(run, work.singles))
        return Ready(run, seconds, _sigmoid(np.concatenate(_run_all(run, work.batches))), _sigmoid(alone), megabytes)


@torch.inference_mode()
def _run_all(run: Run, batches: Sequence[Batch]) -> list[np.ndarray]:
    """Run all batches, from ids to logits."""
    return [run(ids, mask) for ids, mask in batches]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """Squeeze logits between 0 and 1."""
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def _reason(error: Exception) -> str:
    """Say in one line why an engine is left out."""
    if isinstance(error, ModuleNotFoundError):  # PackageNotFoundError too
        return f"not installed: {error.name}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".replace("|", "/")[:_LONGEST_REASON]


def _found(
    engine: Engine, ready: dict[str, Ready], seconds: dict[str, list[float]], reasons: dict[str, str], work: Work
) -> dict[str, Any]:
    """Put an engine's figures together, or why there are none."""
    about = {"engine": engine.name, "dtype": engine.dtype, "left_out": reasons.get(engine.way)}
    own = ready.get(engine.way)
    if own is None:
        return about
    apart = np.abs(own.probabilities - ready[REFERENCE].probabilities)
    of_passes = seconds[engine.way]
    return {
        **about,
        "seconds": of_passes,
        "rows_per_second": spread([work.n_rows / of_pass for of_pass in of_passes]),
        "times_eager_bfloat16": ratios(seconds[BASE], of_passes),
        "apart": {"worst": float(apart.max()), "quantile_999": float(np.quantile(apart, 0.999))},
        "alone_apart": float(np.abs(own.alone - own.probabilities[list(work.alone)]).max()),
        "seconds_to_prepare": own.seconds,
        "megabytes": own.megabytes,
    }


def _table(found: Sequence[dict[str, Any]], threads: int) -> list[str]:
    """Lay the figures out as Markdown."""
    head = ["engine", "arithmetic", "rows/s", "times eager bfloat16", "sigmoids apart, at most", "99.9 %"]
    head += ["alone and in a batch apart, at most", "seconds to get ready", "packages, MB"]
    return [
        *table(head, [_cells(of, len(head)) for of in found]),
        "",
        f"Medians of passes with {threads} threads, with the least and the greatest. Sigmoids are compared with those "
        "of eager float32. Getting ready is to load, convert or compile, and to run a first batch. Packages are what "
        "runs the network alone: to convert it, OpenVINO and ONNX Runtime need torch too.",
    ]


def _cells(of: dict[str, Any], width: int) -> list[str]:
    """Write the row of an engine."""
    if of["left_out"] is not None:
        return [of["engine"], of["dtype"], of["left_out"], *[""] * (width - 3)]
    return [
        of["engine"],
        of["dtype"],
        shown(of["rows_per_second"], 1),
        shown(of["times_eager_bfloat16"]),
        f"{of['apart']['worst']:.2g}",
        f"{of['apart']['quantile_999']:.2g}",
        f"{of['alone_apart']:.2g}",
        f"{of['seconds_to_prepare']:.1f}",
        f"{of['megabytes']:.0f}",
    ]


if __name__ == "__main__":
    run(app)
