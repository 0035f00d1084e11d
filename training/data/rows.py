"""The rows of an extract, checked against its record before anything learns from them or is evaluated on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ptec_udf.errors import SourceError
from training.data.folder import DATA, RECORD, locate

_REQUIRED = ("key", "text", "text_hash", "split")
_PIECE_ROWS = 10_000  # texts are copied to be hashed


def read_extract_rows(folder: str | Path, record: dict[str, Any], splits: Sequence[str] | None = None) -> pa.Table:
    """Read the rows of some splits of an extract.

    Args:
        folder: a path or URI.
        record: of the extract.
        splits: of train, dev and test; rows of the others are not read. None: all.

    Raises:
        SourceError: for rows that cannot be read or do not match the record, with all errors.
    """
    files, path = locate(folder)
    try:
        table = pq.read_table(
            f"{path}/{DATA}",
            columns=[*_REQUIRED, "labels"],
            filesystem=files,
            filters=None if splits is None else pc.field("split").isin(list(splits)),
        )
        errors = list(_errors(table, record, record["counts"]["written"] if splits is None else splits))
    except (pa.ArrowException, OSError) as error:
        errors = [f"rows must be Parquet with the columns of an extract, reading failed with {type(error).__name__}"]
    if errors:
        raise SourceError([f"{error}, in {str(folder)!r}; run ptec extract again" for error in errors])
    return table


def _errors(table: pa.Table, record: dict[str, Any], splits: Iterable[str]) -> Iterator[str]:
    """Yield errors that do not quote any text."""
    for name in _REQUIRED:
        if n_nulls := table[name].null_count:
            yield f"column {name!r} must have no nulls, has {n_nulls}"
    if n_changed := _count_changed(table):
        yield f"column 'text_hash' must be the SHA-256 of 'text', differs in {n_changed} rows"
    if n_duplicates := len(table) - pc.count_distinct(table["key"], mode="all").as_py():
        yield f"keys must be distinct, {n_duplicates} rows repeat one"
    if unknown := set(table["split"].unique().to_pylist()) - set(splits) - {None}:
        yield f"column 'split' must have splits of {RECORD}, has {len(unknown)} others"
    for split in splits:
        expected = record["counts"]["written"].get(split, 0)
        n_rows = pc.sum(pc.equal(table["split"], split)).as_py() or 0
        if n_rows != expected:
            yield f"{RECORD} has {expected} rows of {split}, found {n_rows}"
    found = Counter(
        (label, split)
        for label_list, split in zip(table["labels"].to_pylist(), table["split"].to_pylist(), strict=True)
        for label in label_list or ()
    )
    counted = Counter({(label["name"], split): label[split] for label in record["labels"] for split in splits})
    if wrong := {name for name, split in found | counted if found[name, split] != counted[name, split]}:
        yield f"{RECORD} must have the number of rows of each label, {len(wrong)} labels have another number"


def _count_changed(table: pa.Table) -> int:
    """Count texts that do not have their hash."""
    return sum(
        text is not None and hashlib.sha256(text.encode()).hexdigest() != text_hash
        for piece in table.select(["text", "text_hash"]).to_batches(max_chunksize=_PIECE_ROWS)
        for text, text_hash in zip(*(column.to_pylist() for column in piece.columns), strict=True)
    )
