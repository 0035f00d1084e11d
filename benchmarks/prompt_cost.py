"""What a soft prompt costs at scoring: rows per second of a model with its prompt, and without any.

Run it so::

    python -m benchmarks.prompt_cost ARTIFACT texts.parquet --column text --out docs/benchmarks/prompt_cost

Both have the same backbone, head and texts, in one process without Spark, and take turns. What the second gives is of
no use, since the head has learned with the prompt. In each turn the time with the prompt is divided by that without it.
Without one MPNet runs the library's own pass, and with one ours.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.common import (
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
    ratios,
    read_texts,
    run,
    score,
    shown,
    spread,
    table,
    use_threads,
)
from benchmarks.machine import write_results
from ptec_udf.engine.scorer import BATCH_TOKENS, Scorer
from ptec_udf.engine.torch_engine import TorchEngine
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.calibration import probabilities
from ptec_udf.model.ensemble import build_ensemble
from ptec_udf.model.network import PtecNetwork

WITH, WITHOUT = "with the prompt", "without"

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with a prompt.")],
    texts: TextsArgument,
    column: ColumnOption = "text",
    rows: RowsOption = 1000,
    repeats: RepeatsOption = 11,
    dtype: DtypeOption = "bfloat16",
    batch_tokens: BatchOption = BATCH_TOKENS,
    threads: ThreadsOption = None,
    out: OutOption = Path("docs/benchmarks/prompt_cost"),
) -> None:
    """Score the same rows with the prompt and without, in turn, after a first pass of each."""
    model, given = load_artifact(artifact), read_texts(texts, column, rows)
    if model.manifest.prompt is None:
        raise typer.BadParameter("a model with a prompt is wanted, this one has none")
    n_threads = use_threads(threads)
    scorer = load(model, dtype, batch_tokens)
    scorers = {WITH: scorer, WITHOUT: without_prompt(scorer)}
    ways = {name: partial(score, one, given) for name, one in scorers.items()}
    for way in ways.values():
        way()
    scored, seconds = in_turn(ways, len(given), repeats)
    prompt = model.manifest.prompt
    labels, curve = model.manifest.labels, model.manifest.curve
    of_both = [probabilities(logits_of(scored[name]), labels, curve) for name in (WITH, WITHOUT)]
    about = {"artifact": model.model_id, "dtype": dtype, "batch_tokens": batch_tokens, "threads": n_threads}
    found = {
        **about,
        "prompt": {"kind": prompt.kind, "positions": prompt.n_tokens, "cached": network_of(scorer).caches_prompt},
        "rows": len(given),
        "seconds": seconds,
        "rows_per_second": {name: spread([len(given) / one for one in of]) for name, of in seconds.items()},
        "times_without": ratios(seconds[WITH], seconds[WITHOUT]),
        "probabilities_apart": float(np.nanmax(np.abs(of_both[0] - of_both[1]))),
    }
    write_results(out, found, _table(found))


def without_prompt(scorer: Scorer) -> Scorer:
    """Put the same heads on the same backbone as it is."""
    networks = [
        PtecNetwork(
            backbone=member.backbone,
            kind=None,
            prompt=None,
            head=member.head,
            pooling=member.pooling,
            attention=member.attention,
        )
        for member in network_of(scorer).members
    ]
    return Scorer(
        TorchEngine(build_ensemble(networks)), scorer.encoder, batch_tokens=scorer.batch_tokens, tfidf=scorer.tfidf
    )


def _table(found: dict[str, Any]) -> list[str]:
    """Lay the figures out as Markdown."""
    prompt, rates = found["prompt"], found["rows_per_second"]
    head = ["prompt", "positions", "cached", "rows/s with it", "rows/s without", "time with it, times that without"]
    cells = [prompt["kind"], prompt["positions"], "yes" if prompt["cached"] else "no"]
    cells += [shown(rates[WITH], 1), shown(rates[WITHOUT], 1), shown(found["times_without"], 3)]
    return [*table(head, [cells]), "", "Medians of passes, with the least and the greatest."]


if __name__ == "__main__":
    run(app)
