"""Count the probabilities of a table, where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ptec_udf.monitor.distribution import PROBABILITY_EDGES, count_probabilities

CELLS = "is_fresh boolean, position int, companies bigint, bins array<bigint>, total double, over bigint"
"""Columns of what is counted; ``over``: companies at or over the threshold."""


@dataclass
class Counted:
    """Counts of one population.

    Attributes:
        companies: number of them.
        bins: *Shape:* ``(n_labels, n_bins)``, companies by bin of their probability.
        total: *Shape:* ``(n_labels,)``, sum of probabilities.
        over: *Shape:* ``(n_labels,)``, companies at or over the threshold.
    """

    companies: int
    bins: NDArray[np.int64]
    total: NDArray[np.float64]
    over: NDArray[np.int64]

    @classmethod
    def nothing(cls, n_labels: int) -> Counted:
        """Begin at 0."""
        bins = np.zeros((n_labels, len(PROBABILITY_EDGES)), np.int64)
        return cls(0, bins, np.zeros(n_labels), np.zeros(n_labels, np.int64))

    def add(self, other: Counted) -> None:
        """Add another population's counts."""
        self.companies += other.companies
        self.bins += other.bins
        self.total += other.total
        self.over += other.over


def counting(thresholds: list[float]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return what ``mapInArrow`` needs to count is_fresh and probabilities: ``CELLS``, a row a label and population."""

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = {is_fresh: Counted.nothing(len(thresholds)) for is_fresh in (True, False)}
        for batch in batches:
            values = batch.column("probabilities").flatten().to_numpy().reshape(-1, len(thresholds))
            is_fresh = batch.column("is_fresh").to_numpy(zero_copy_only=False)
            for part, counted in sums.items():
                counted.add(_count(values[is_fresh == part], np.array(thresholds, np.float32)))
        yield from (_batch(part, counted) for part, counted in sums.items() if counted.companies)

    return count


def add_up(rows: Iterable[Mapping[str, Any]], n_labels: int) -> dict[bool, Counted]:
    """Sum rows of ``CELLS``, by whether they are of fresh companies."""
    sums = {is_fresh: Counted.nothing(n_labels) for is_fresh in (True, False)}
    for row in rows:
        counted, at = sums[row["is_fresh"]], row["position"]
        counted.companies += row["companies"] if at == 0 else 0
        counted.bins[at] += row["bins"]
        counted.total[at] += row["total"]
        counted.over[at] += row["over"]
    return sums


def _count(values: NDArray[np.float32], thresholds: NDArray[np.float32]) -> Counted:
    over = (values >= thresholds).sum(axis=0)
    return Counted(len(values), count_probabilities(values), values.sum(axis=0, dtype=np.float64), over)


def _batch(is_fresh: bool, counted: Counted) -> pa.RecordBatch:
    n_labels = len(counted.total)
    columns = {
        "is_fresh": pa.array([is_fresh] * n_labels, pa.bool_()),
        "position": pa.array(range(n_labels), pa.int32()),
        "companies": pa.array([counted.companies] * n_labels, pa.int64()),
        "bins": pa.array(counted.bins.tolist(), pa.list_(pa.int64())),
        "total": pa.array(counted.total),
        "over": pa.array(counted.over),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
