"""Rows per second of scoring with all of its parts, and with each of them off alone.

Run it so::

    python -m benchmarks.parts ARTIFACT texts.parquet --column text --out docs/benchmarks/parts

It scores in this process, without Spark. A pass gives every row its score, so that a text that stands in several rows
is scored once, or, with that part off, once for each of them. Each row of the table has one part off, or the first two
together, and all others on:

* sorting by length: texts as they come, in batches under the budget of positions;
* budget of positions: 32 texts a batch, sorted by length;
* sorting and budget: 32 texts a batch, as they come;
* prompt's cache: the prompt runs as further positions of every text. Only an input prompt of a decoder has a choice;
* bfloat16: float32 in its place;
* equal texts once: every row's text is scored.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.common import (
    WINDOW_ROWS,
    BatchOption,
    ColumnOption,
    DtypeOption,
    OutOption,
    RepeatsOption,
    RowsOption,
    TextsArgument,
    ThreadsOption,
    in_turn,
    load,
    logits_of,
    network_of,
    padding_of,
    ratios,
    read_texts,
    run,
    shown,
    spread,
    table,
    use_threads,
)
from benchmarks.machine import write_results
from ptec_udf.engine.result import ScoredText
from ptec_udf.engine.scorer import BATCH_TOKENS, Scorer
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.calibration import probabilities

ALL = "all parts"
BATCH_ROWS = 32

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Way:
    """How texts are scored.

    Attributes:
        scorer: with a budget of positions of its own.
        texts: what is scored.
        groups: places in ``texts``; each group is one call of the scorer.
    """

    scorer: Scorer
    texts: Sequence[str]
    groups: Sequence[Sequence[int]]

    def __call__(self) -> list[ScoredText]:
        """Score, in the order of ``texts``."""
        results: list[ScoredText | None] = [None] * len(self.texts)
        for group in self.groups:
            for at, scored in zip(group, self.scorer.score([self.texts[at] for at in group]), strict=True):
                results[at] = scored
        return [one for one in results if one is not None]


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with a backbone.")],
    texts: TextsArgument,
    column: ColumnOption = "text",
    rows: RowsOption = 2000,
    repeats: RepeatsOption = 3,
    dtype: DtypeOption = "bfloat16",
    batch_tokens: BatchOption = BATCH_TOKENS,
    threads: ThreadsOption = None,
    out: OutOption = Path("docs/benchmarks/parts"),
) -> None:
    """Score the same rows in all ways, in turn, after a first pass of each."""
    model, given = load_artifact(artifact), read_texts(texts, column, rows)
    n_threads = use_threads(threads)
    ways, left_out = _ways(model, given, dtype, batch_tokens)
    for reason in left_out:
        logger.info(f"left out, {reason}")
    for name, way in ways.items():
        logger.info(f"first pass, {name}")
        way()
    scored, seconds = in_turn(ways, len(given), repeats)
    found = {name: _compared(model, ways, scored, seconds, name, len(given)) for name in ways}
    about = {"artifact": model.model_id, "dtype": dtype, "batch_tokens": batch_tokens, "threads": n_threads}
    counts = {"rows": len(given), "distinct": len(set(given)), "repeats": repeats}
    write_results(out, {**about, **counts, "ways": found, "left_out": left_out}, _table(found, left_out))


def _ways(model: Artifact, given: Sequence[str], dtype: str, batch_tokens: int) -> tuple[dict[str, Way], list[str]]:
    """Name the ways of scoring, and say which are left out and why."""
    scorer = load(model, dtype, batch_tokens)
    as_given = Scorer(scorer.engine, scorer.encoder, batch_tokens=sys.maxsize, tfidf=scorer.tfidf)
    texts, left_out = list(dict.fromkeys(given)), []
    lengths = [len(text.ids) for text in scorer.encoder.encode(texts)]
    windows = _parts(range(len(texts)), WINDOW_ROWS)
    by_length = [row for window in windows for row in sorted(window, key=lambda row: lengths[row], reverse=True)]
    ways = {
        ALL: Way(scorer, texts, windows),
        "sorting": Way(as_given, texts, list(_under_budget(lengths, batch_tokens))),
        "budget": Way(as_given, texts, _parts(by_length, BATCH_ROWS)),
        "sorting and budget": Way(as_given, texts, _parts(range(len(texts)), BATCH_ROWS)),
    }
    if all(member.caches_prompt and member.kind == "input" for member in network_of(scorer).members):
        ways["prompt's cache"] = Way(_without_cache(load(model, dtype, batch_tokens)), texts, windows)
    else:
        left_out.append("prompt's cache: only an input prompt of a decoder can be scored with it and without")
    if dtype == "float32":
        left_out.append("bfloat16: the model computes in float32")
    else:
        ways["bfloat16"] = Way(load(model, "float32", batch_tokens), texts, windows)
    if len(texts) == len(given):
        left_out.append("equal texts once: no text stands in two rows")
    else:
        ways["equal texts once"] = Way(scorer, given, _parts(range(len(given)), WINDOW_ROWS))
    return ways, left_out


def _parts(rows: Sequence[int], most: int) -> list[Sequence[int]]:
    """Part rows in their order, at most so many together."""
    return [rows[at : at + most] for at in range(0, len(rows), most)]


def _under_budget(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Group rows in their order, so that padded batches hold at most ``batch_tokens`` positions."""
    batch: list[int] = []
    longest = 0
    for row, length in enumerate(lengths):
        if batch and (len(batch) + 1) * max(longest, length) > batch_tokens:
            yield batch
            batch, longest = [], 0
        batch.append(row)
        longest = max(longest, length)
    yield batch


def _without_cache(scorer: Scorer) -> Scorer:
    """Let the prompt run along with every text."""
    for member in network_of(scorer).members:
        member.caches_prompt = False
    return scorer


def _compared(
    model: Artifact,
    ways: dict[str, Way],
    scored: dict[str, list[ScoredText]],
    seconds: dict[str, list[float]],
    name: str,
    n_rows: int,
) -> dict[str, Any]:
    """Rates of a way, what it padded, and how far its probabilities lie from those of all parts."""
    place = {text: at for at, text in enumerate(ways[ALL].texts)}
    rows = [place[text] for text in ways[name].texts]
    labels, curve = model.manifest.labels, model.manifest.curve
    own, of_all = (probabilities(logits_of(scored[way]), labels, curve) for way in (name, ALL))
    apart = np.abs(own - of_all[rows])
    return {
        "seconds": seconds[name],
        "rows_per_second": spread([n_rows / of_pass for of_pass in seconds[name]]),
        "times_all_parts": ratios(seconds[ALL], seconds[name]),
        "padding": padding_of(scored[name]),
        "probabilities_apart": float(np.nanmax(apart)),
    }


def _table(found: dict[str, dict[str, Any]], left_out: Sequence[str]) -> list[str]:
    """Lay the figures out as Markdown."""
    head = ["off", "rows/s", "times all parts", "padding", "probabilities apart from all parts', at most"]
    rows = [
        [
            "nothing" if name == ALL else name,
            shown(of["rows_per_second"], 1),
            shown(of["times_all_parts"]),
            f"{100 * of['padding']:.1f} %",
            f"{of['probabilities_apart']:.2g}",
        ]
        for name, of in found.items()
    ]
    lines = [*table(head, rows), "", "Medians of passes, with the least and the greatest."]
    return [*lines, *(f"Left out, {reason}." for reason in left_out)]


if __name__ == "__main__":
    run(app)
