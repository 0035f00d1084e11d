"""How near scoring comes to what the processor can compute: operations per second, and where the rest of the time goes.

Run it so::

    python -m benchmarks.arithmetic ARTIFACT texts.parquet --column text --out docs/benchmarks/arithmetic

With all cores and with one thread, these take turns:

* the model's scoring of the texts, from text to logits;
* the network alone, on the batches that scoring makes of them;
* products of matrices alone: those of each linear layer of the backbone in each of these batches, with its own weights;
* products of two large square matrices, about as many operations.

A multiplication and an addition are two operations. Those of the network are counted by torch's ``FlopCounterMode``,
for all positions that are computed and for those of texts alone, without padding. Then a
profile of the network shares out its time among torch's operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

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
    score,
    shown,
    spread,
    table,
    use_threads,
)
from benchmarks.machine import write_results
from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.device import BATCH_TOKENS
from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.torch_engine import pad
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact

SCORING, NETWORK, PRODUCTS, SQUARE = "scoring", "network", "the same products", "square products"
_MOST_OPERATORS = 12
_BILLION = 1e9

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Work:
    """What is computed.

    Attributes:
        batches: ids and mask, each *Shape:* ``(batch, length)``.
        lengths: tokens of each text, batch by batch.
        products: input, *Shape:* ``(positions, in)``, and weight, *Shape:* ``(out, in)``, of each product that the
            backbone's linear layers make.
        square: a matrix that is multiplied by itself.
        n_squares: how often.
    """

    batches: Sequence[Batch]
    lengths: Sequence[int]
    products: Sequence[Batch]
    square: torch.Tensor
    n_squares: int

    def operations(self, scorer: Scorer) -> dict[str, float]:
        """Count the operations of each way, padding included, and of the texts alone."""
        whole = _count_operations(scorer, self.batches)
        return {
            SCORING: whole,
            NETWORK: whole,
            PRODUCTS: float(sum(2 * len(rows) * weight.numel() for rows, weight in self.products)),
            SQUARE: 2.0 * self.n_squares * len(self.square) ** 3,
            "texts": _count_operations(scorer, self._texts()),
        }

    def _texts(self) -> list[Batch]:
        """Return each text as a batch without padding."""
        rows = [(ids[None], mask[None]) for batch in self.batches for ids, mask in zip(*batch, strict=True)]
        return [(ids[:, :n], mask[:, :n]) for (ids, mask), n in zip(rows, self.lengths, strict=True)]


@torch.inference_mode()
def _count_operations(scorer: Scorer, batches: Sequence[Batch]) -> float:
    with FlopCounterMode(display=False) as counter:
        for ids, mask in batches:
            scorer.network(ids, mask)
    return float(counter.get_total_flops())


@app.command()
def compare(
    artifact: Annotated[Path, typer.Argument(help="Folder of a model with a backbone.")],
    texts: TextsArgument,
    column: ColumnOption = "text",
    rows: RowsOption = 500,
    repeats: RepeatsOption = 5,
    dtype: Annotated[str, typer.Option(help="Arithmetic of the backbone, and of the products.")] = "bfloat16",
    batch_tokens: BatchOption = BATCH_TOKENS,
    threads: Annotated[list[int] | None, typer.Option(help="Threads of torch; by default all cores, and one.")] = None,
    side: Annotated[int, typer.Option(help="Rows and columns of the square matrices.")] = 2048,
    out: OutOption = Path("docs/benchmarks/arithmetic"),
) -> None:
    """Measure with each number of threads, after a first pass of each way."""
    model, given = load_artifact(artifact), read_texts(texts, column, rows)
    scorer = load(model, dtype, batch_tokens)
    work = _work(scorer, given, side)
    operations = work.operations(scorer)
    found = {}
    for n_threads in threads or sorted({use_threads(None), 1}, reverse=True):
        use_threads(n_threads)
        logger.info(f"with {n_threads} threads")
        found[n_threads] = _measured(scorer, work, given, operations, repeats)
    about = {"artifact": model.model_id, "dtype": dtype, "batch_tokens": batch_tokens, "side": side}
    write_results(out, {**about, "rows": len(given), "operations": operations, "threads": found}, _table(found))


@torch.inference_mode()
def _work(scorer: Scorer, texts: Sequence[str], side: int) -> Work:
    """Make the batches that scoring makes, and note which products the backbone's linear layers compute for them."""
    encoded = [text.ids for text in scorer.encoder.encode(texts) if text.ids]
    batches, lengths = [], []
    for rows in length_sorted_batches([len(ids) for ids in encoded], scorer.batch_tokens):
        batches.append(pad([encoded[row] for row in rows], scorer.encoder.pad_id))
        lengths += [len(encoded[row]) for row in rows]
    shapes: list[tuple[int, nn.Linear]] = []

    def note(layer: nn.Linear, inputs: tuple[torch.Tensor, ...]) -> None:
        shapes.append((inputs[0].numel() // layer.in_features, layer))

    backbone = scorer.network.members[0].backbone
    hooks = [part.register_forward_pre_hook(note) for part in backbone.modules() if isinstance(part, nn.Linear)]
    with torch.enable_grad():  # so that all layers are modules of their own: in scoring some are parts of one step
        for ids, mask in batches:
            scorer.network(ids, mask)
    for hook in hooks:
        hook.remove()
    sizes = {(n, layer.in_features) for n, layer in shapes}
    inputs = {size: torch.randn(size, dtype=backbone.dtype) for size in sizes}
    products = [(inputs[n, layer.in_features], layer.weight) for n, layer in shapes]
    n_squares = round(sum(len(rows) * weight.numel() for rows, weight in products) / side**3) or 1
    return Work(batches, lengths, products, torch.randn(side, side, dtype=backbone.dtype), n_squares)


@torch.inference_mode()
def _run_network(scorer: Scorer, batches: Sequence[Batch]) -> None:
    """From ids to logits."""
    for ids, mask in batches:
        scorer.network(ids, mask)


@torch.inference_mode()
def _multiply(products: Sequence[Batch]) -> None:
    """Compute each product."""
    for rows, weight in products:
        nn.functional.linear(rows, weight)


def _measured(
    scorer: Scorer, work: Work, texts: Sequence[str], operations: dict[str, float], repeats: int
) -> dict[str, Any]:
    """Measure all ways with the present number of threads."""
    ways: dict[str, Callable[[], Any]] = {
        SCORING: partial(score, scorer, texts),
        NETWORK: partial(_run_network, scorer, work.batches),
        PRODUCTS: partial(_multiply, work.products),
        SQUARE: partial(_multiply, [(work.square, work.square)] * work.n_squares),
    }
    for way in ways.values():
        way()
    _, seconds = in_turn(ways, len(texts), repeats)
    rates = {name: [operations[name] / one / _BILLION for one in of] for name, of in seconds.items()}
    of_texts = operations["texts"] / operations[NETWORK]
    found = {
        name: {
            "seconds": seconds[name],
            "billions_per_second": spread(rates[name]),
            "of_texts_alone": spread([of_texts * rate for rate in rates[name]]) if name in (SCORING, NETWORK) else None,
            "share_of_the_same_products": ratios(rates[name], rates[PRODUCTS]),
        }
        for name in ways
    }
    return {"ways": found, "profile": _profile(scorer, work.batches)}


def _profile(scorer: Scorer, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """Share the network's time out among operators, those of most time; each without what it calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        _run_network(scorer, batches)
    averages = sorted(profiled.key_averages(), key=lambda one: one.self_cpu_time_total, reverse=True)
    whole = sum(one.self_cpu_time_total for one in averages)
    return [
        {"operator": one.key, "calls": one.count, "share": one.self_cpu_time_total / whole}
        for one in averages[:_MOST_OPERATORS]
    ]


def _table(found: dict[int, dict[str, Any]]) -> list[str]:
    """Lay the figures out as Markdown."""
    head = ["threads", "what", "billions of operations/s", "of texts alone", "share of the same products' rate"]
    rows, lines = [], []
    for threads, of_threads in found.items():
        for name, of in of_threads["ways"].items():
            alone = shown(of["of_texts_alone"], 1) if of["of_texts_alone"] else ""
            rates = [shown(of["billions_per_second"], 1), alone, shown(of["share_of_the_same_products"])]
            rows.append([threads, name, *rates])
        lines += ["", f"The network's time by operator, {threads} threads:", ""]
        cells = [[f"`{one['operator']}`", one["calls"], f"{100 * one['share']:.1f} %"] for one in of_threads["profile"]]
        lines += table(["operator", "calls", "share"], cells)
    return [*table(head, rows), "", "Medians of passes, with the least and the greatest.", *lines]


if __name__ == "__main__":
    run(app)
