"""Group rows into batches by length, and pad them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def length_sorted_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield batches of row numbers, each row in one of them; a batch has at most ``batch_tokens`` padded positions.

    The longest rows come first, so that a batch that does not fit in memory shows at once. A row longer than the
    budget is a batch of its own.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True):
        # Lengths fall, so the first row of a batch decides its padded width.
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def pad_batch(ids: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right-pad token ids to the longest row; return ids and mask (1 at text), *Shape:* ``(batch, length)``."""
    lengths = np.array([len(row) for row in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(mask.shape, pad_id, np.int64)
    padded[mask] = np.concatenate([np.asarray(row, np.int64) for row in ids])
    return padded, mask.astype(np.int64)
