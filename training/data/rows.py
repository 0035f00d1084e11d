"""The rows of an extract, held against its record before anything learns from them or is judged by them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ptec_udf.errors import SourceError
from training.data.folder import DATA, RECORD, located

_HASH = "^[0-9a-f]{64}$"
_REQUIRED = ("key", "text", "text_hash", "split")


def read_extract_rows(folder: str | Path, record: dict[str, Any], more: Sequence[str] = ()) -> pa.Table:
    """Read all rows of an extract.

    Args:
        folder: a path or URI.
        record: of the extract.
        more: columns beside key, text, text_hash, split and labels.

    Raises:
        SourceError: for rows that cannot be read, or are not those of the record, with all that is wrong.
    """
    files, path = located(folder)
    try:
        table = pq.read_table(f"{path}/{DATA}", columns=[*_REQUIRED, "labels", *more], filesystem=files)
        faults = list(_faults(table, record))
    except (pa.ArrowException, OSError) as error:
        faults = [f"rows must be Parquet with the columns of an extract, reading ended with {type(error).__name__}"]
    if faults:
        raise SourceError([f"{fault}, in {str(folder)!r}; run ptec extract again" for fault in faults])
    return table


def _faults(table: pa.Table, record: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong; without quoting a text."""
    for name in _REQUIRED:
        if n_nulls := table[name].null_count:
            yield f"column {name!r} must have no nulls, has {n_nulls}"
    if not pc.all(pc.match_substring_regex(table["text_hash"], _HASH)).as_py():
        yield "column 'text_hash' must hold SHA-256, holds other values"
    elif n_unlike := _unlike_their_hash(table):
        yield f"column 'text_hash' must be that of 'text', is another one in {n_unlike} rows"
    if n_doubles := len(table) - pc.count_distinct(table["key"], mode="all").as_py():
        yield f"keys must differ, {n_doubles} rows have one that stands there already"
    found = {row["split"]: row["count_all"] for row in _counts(table.select(["split"]))}
    written = record["counts"]["written"]
    for split in sorted(found | written, key=str):
        if found.get(split, 0) != written.get(split, 0):
            yield f"{RECORD} says {written.get(split, 0)} rows of {split}, there are {found.get(split, 0)}"
    yield from _label_faults(table, record)


def _unlike_their_hash(table: pa.Table) -> int:
    """Count texts that were changed; in pieces, since each is copied."""
    return sum(
        text is not None and hashlib.sha256(text.encode()).hexdigest() != text_hash
        for piece in table.select(["text", "text_hash"]).to_batches(max_chunksize=10_000)
        for text, text_hash in zip(*(column.to_pylist() for column in piece.columns), strict=True)
    )


def _label_faults(table: pa.Table, record: dict[str, Any]) -> Iterator[str]:
    """Compare numbers of positives with those of the record."""
    labels = table["labels"].combine_chunks()
    given = pa.table({"split": table["split"].take(pc.list_parent_indices(labels)), "label": pc.list_flatten(labels)})
    found = {(row["label"], row["split"]): row["count_all"] for row in _counts(given)}
    names = [label["name"] for label in record["labels"]]
    if len(set(names)) < len(names):
        yield f"{RECORD} must name each label once, does so {len(names)} times for {len(set(names))}"
    splits = record["counts"]["written"]
    said = {(label["name"], split): label[split] for label in record["labels"] for split in splits}
    unlike = {name for name, split in found | said if found.get((name, split), 0) != said.get((name, split), 0)}
    if unlike:
        yield f"{RECORD} must say how many rows have each label, of {len(unlike)} labels it says another number"


def _counts(table: pa.Table) -> list[dict[str, Any]]:
    return table.group_by(table.column_names).aggregate([([], "count_all")]).to_pylist()
