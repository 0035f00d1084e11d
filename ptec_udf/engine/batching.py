"""Which rows share a forward pass: sorted by length, under a budget of positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence


def length_sorted_batches(lengths: Sequence[int], batch_tokens: int | Callable[[], int]) -> Iterator[list[int]]:
    """Group rows so that padded batches hold at most ``batch_tokens`` positions.

    Longest rows come first, so that a batch that does not fit in memory shows at once. A row longer
    than the budget makes a batch of its own.

    Args:
        lengths: number of positions of every row.
        batch_tokens: most positions of a batch, padding included; a function is asked anew for each batch.

    Yields:
        Indices into ``lengths``; every row stands in exactly one batch.
    """
    most = batch_tokens if callable(batch_tokens) else lambda: batch_tokens
    order = sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True)
    batch: list[int] = []
    for row in order:
        # Rows come by falling length, so the first of a batch decides its padded width.
        if batch and (len(batch) + 1) * lengths[batch[0]] > most():
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
