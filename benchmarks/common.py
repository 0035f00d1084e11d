"""What benchmarks share: texts, passes in turn, figures of them, tables."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
import torch
import typer

from ptec_udf.engine.result import ScoredText
from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.torch_engine import TorchEngine, load_scorer
from ptec_udf.errors import PtecError
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact
from ptec_udf.model.ensemble import MeanNetwork
from ptec_udf.model.network import PtecNetwork

# What their commands take alike.
TextsArgument = Annotated[Path, typer.Argument(help="Parquet file or folder.")]
ColumnOption = Annotated[str, typer.Option(help="Column of texts.")]
RowsOption = Annotated[int, typer.Option(help="So many rows are scored, the first ones.")]
RepeatsOption = Annotated[int, typer.Option(help="Timed passes of each.")]
DtypeOption = Annotated[str, typer.Option(help="Arithmetic of the backbone.")]
Batch = tuple[torch.Tensor, torch.Tensor]
"""Ids and mask, each *Shape:* ``(batch, length)``."""

BatchOption = Annotated[int, typer.Option(help="Most positions of a batch.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads of torch; all cores by default.")]
MasterOption = Annotated[str, typer.Option(help="Spark master.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the results.")]

WINDOW_ROWS = 4096
"""Rows that one call of a scorer gets, as in a night by default."""

ResultT = TypeVar("ResultT")


def run(app: typer.Typer) -> None:
    """Run a benchmark's command; what a person can mend is said in a line."""
    try:
        app()
    except PtecError as error:
        logger.error(f"{error}")
        raise SystemExit(error.exit_code) from None


def read_texts(path: Path, column: str, rows: int | None = None) -> list[str]:
    """Return the first texts that are not blank, in their order.

    Args:
        path: Parquet file or folder.
        column: of texts.
        rows: so many at most; None: all.

    Raises:
        ValueError: when there is none.
    """
    found = pq.read_table(path, columns=[column])[column].to_pylist()
    texts = [text for text in found if text and not text.isspace()][:rows]
    if not texts:
        raise ValueError(f"column {column!r} must have texts, found none in {str(path)!r}")
    return texts


def use_threads(n: int | None) -> int:
    """Let torch compute with so many threads, by default with all cores; return their number."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as in a night's workers
    torch.set_num_threads(n or len(os.sched_getaffinity(0)))
    return torch.get_num_threads()


def network_of(scorer: Scorer) -> PtecNetwork | MeanNetwork:
    """Return the network of a scorer that ``load`` has made."""
    assert isinstance(scorer.engine, TorchEngine)
    return scorer.engine.network


def load(artifact: Artifact, dtype: str, batch_tokens: int) -> Scorer:
    """Load a model that has a language model.

    Raises:
        TypeError: for one that has none.
    """
    scorer = load_scorer(artifact, dtype=getattr(torch, dtype), batch_tokens=batch_tokens)
    if not isinstance(scorer, Scorer):
        raise TypeError("a model with a backbone is wanted, this one scores by TF-IDF alone")
    return scorer


def score(scorer: Scorer, texts: Sequence[str]) -> list[ScoredText]:
    """Score texts as a night's worker does, window by window."""
    windows = (texts[at : at + WINDOW_ROWS] for at in range(0, len(texts), WINDOW_ROWS))
    return [one for window in windows for one in scorer.score(window)]


def rounds(names: Iterable[str], repeats: int) -> Iterator[tuple[int, str]]:
    """Name all in turn, so often, with the number of the round, from 1.

    Every second round goes backwards, so that a machine that slows down does not favour one of them.
    """
    order = list(names)
    for at in range(repeats):
        for name in order[:: 1 if at % 2 == 0 else -1]:
            yield at + 1, name


def in_turn(
    ways: Mapping[str, Callable[[], ResultT]], rows: int, repeats: int
) -> tuple[dict[str, ResultT], dict[str, list[float]]]:
    """Run all ways one after the other, in ``rounds``; the caller has warmed them up.

    Args:
        ways: by name; each scores all rows when it is called.
        rows: what a pass scores, for its progress line.
        repeats: passes of each.

    Returns:
        What each way's last pass returned, and the seconds of its passes; those of one round have the same place in
        their lists.
    """
    results: dict[str, ResultT] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for at, name in rounds(ways, repeats):
        started = time.perf_counter()
        results[name] = ways[name]()
        seconds[name].append(time.perf_counter() - started)
        logger.info(f"pass {at} of {repeats}, {name}: {rows / seconds[name][-1]:.1f} rows/s")
    return results, seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median of some values, with the least and the greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Divide what stands at equal places, and return the ``spread`` of that."""
    return spread([one / other for one, other in zip(over, under, strict=True)])


def shown(values: Mapping[str, float], digits: int = 2) -> str:
    """Write a ``spread``."""
    median, least, greatest = (f"{values[name]:.{digits}f}" for name in ("median", "least", "greatest"))
    return f"{median} ({least} to {greatest})"


def logits_of(scored: Sequence[ScoredText]) -> np.ndarray:
    """Put logits together, *Shape:* ``(n_rows, n_labels)``; of a row that has none, NaN.

    Raises:
        ValueError: when no row has any.
    """
    width = next((len(one.logits) for one in scored if one.logits is not None), None)
    if width is None:
        raise ValueError("no text could be scored: " + (scored[0].error or scored[0].status if scored else "no texts"))
    none = np.full(width, np.nan, np.float32)
    return np.stack([none if one.logits is None else one.logits for one in scored])


def padding_of(scored: Sequence[ScoredText]) -> float:
    """Return the share of computed text positions that were padding."""
    return 1 - sum(one.n_tokens for one in scored) / sum(one.batch_positions for one in scored)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lay cells out as lines of Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]
