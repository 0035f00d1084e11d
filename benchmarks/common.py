"""What benchmarks share: options, texts, passes in turn, tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
import typer

from ptec_udf.engine.scorer import ScoredText
from ptec_udf.errors import PtecError
from ptec_udf.log import logger

TextsArgument = Annotated[Path, typer.Argument(help="Parquet file or folder.")]
ColumnOption = Annotated[str, typer.Option(help="Column of texts.")]
RowsOption = Annotated[int, typer.Option(help="Number of rows, the first ones.")]
RepeatsOption = Annotated[int, typer.Option(help="Timed passes of each.")]
DtypeOption = Annotated[str, typer.Option(help="dtype of the backbone.")]
MasterOption = Annotated[str, typer.Option(help="Spark master.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the results.")]

ResultT = TypeVar("ResultT")


def run(app: typer.Typer) -> None:
    """Run a benchmark's command; a user error is one line."""
    try:
        app()
    except PtecError as error:
        logger.error(f"{error}")
        raise SystemExit(error.exit_code) from None


def read_texts(path: Path, column: str, rows: int | None = None) -> list[str]:
    """Return the first texts that are not blank.

    Args:
        path: Parquet file or folder.
        column: of texts.
        rows: number at most; None: all.

    Raises:
        ValueError: without any.
    """
    found = pq.read_table(path, columns=[column])[column].to_pylist()
    texts = [text for text in found if text and not text.isspace()][:rows]
    if not texts:
        raise ValueError(f"column {column!r} must have texts, found none in {str(path)!r}")
    return texts


def rounds(names: Iterable[str], repeats: int) -> Iterator[tuple[int, str]]:
    """Yield round and name; every second round goes backwards, so that a machine that slows down favours none."""
    order = list(names)
    for at in range(repeats):
        for name in order[:: 1 if at % 2 == 0 else -1]:
            yield at + 1, name


def in_turn(
    variants: Mapping[str, Callable[[], ResultT]], rows: int, repeats: int
) -> tuple[dict[str, ResultT], dict[str, list[float]]]:
    """Run all variants in ``rounds``; the caller has warmed them up.

    Args:
        variants: by name; each scores all rows when it is called.
        rows: that a pass scores.
        repeats: passes of each.

    Returns:
        The result of each variant's last pass, and the seconds of its passes.
    """
    results: dict[str, ResultT] = {}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for at, name in rounds(variants, repeats):
        started = time.perf_counter()
        results[name] = variants[name]()
        seconds[name].append(time.perf_counter() - started)
        logger.info(f"pass {at} of {repeats}, {name}: {rows / seconds[name][-1]:.1f} rows/s")
    return results, seconds


def rates(rows: int, seconds: Sequence[float]) -> dict[str, float]:
    """Return rows per second of some passes: median, lowest and highest."""
    values = [rows / taken for taken in seconds]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show_rates(values: Mapping[str, float]) -> str:
    """Write ``rates``."""
    return f"{values['median']:.1f} ({values['min']:.1f} to {values['max']:.1f})"


def differences(logits: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Compare the sigmoids of logits, both *Shape:* ``(n_rows, n_labels)``."""
    one, other = (1 / (1 + np.exp(-values.astype(np.float64))) for values in (logits, reference))
    apart = np.abs(one - other)
    return {"max": float(apart.max()), "p99.9": float(np.quantile(apart, 0.999))}


def logits_of(scored: Sequence[ScoredText]) -> np.ndarray:
    """Stack logits, *Shape:* ``(n_rows, n_labels)``; NaN for a row without.

    Raises:
        ValueError: when no row has any.
    """
    width = next((len(one.logits) for one in scored if one.logits is not None), None)
    if width is None:
        raise ValueError("no text could be scored: " + (scored[0].error or scored[0].status if scored else "no texts"))
    return np.stack([np.full(width, np.nan, np.float32) if one.logits is None else one.logits for one in scored])


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lay cells out as lines of Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]
