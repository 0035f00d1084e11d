"""Which rows a model has learned from, as hashes: such rows must not evaluate it later.

An artifact keeps them in ``seen.safetensors``: ``texts`` and ``keys``, int64, sorted, distinct. A recalibration adds
the rows that it was fitted to, as ``fitted.texts`` and ``fitted.keys``. A key identifies a company within one source
table. A table is identified by its Delta id or its name: ``CREATE OR REPLACE TABLE`` changes the id, a rename the name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save

from ptec_training.data.dataset import Examples
from ptec_udf.model.artifact import SEEN, Artifact

TEXTS, KEYS = "texts", "keys"
_FITTED = "fitted."

Seen = Mapping[str, torch.Tensor]


def seen_in(record: Mapping[str, Any], parts: Iterable[Examples]) -> dict[str, torch.Tensor]:
    """Hash all rows of an extract that decide anything in a training."""
    parts, sources = list(parts), sources_of(record)
    keys = [_key_hashes(source, part.keys) for part in parts for source in sources]
    return {TEXTS: _distinct([_hashes(part.texts) for part in parts]), KEYS: _distinct(keys)}


def seen_by(artifact: Artifact) -> dict[str, torch.Tensor] | None:
    """Return the hashes of the rows that an artifact learned from; None if it does not contain them."""
    return _load(artifact, "")


def fitted_by(artifact: Artifact) -> dict[str, torch.Tensor] | None:
    """Return the hashes of the rows that a recalibration was fitted to; None without a recalibration."""
    return _load(artifact, _FITTED)


def with_fitted(artifact: Artifact, rows: Seen) -> bytes:
    """Return the file of an artifact that was fitted to rows, which replace the rows of an earlier fit."""
    return save({**(seen_by(artifact) or {}), **{f"{_FITTED}{name}": values for name, values in rows.items()}})


def is_seen(seen: Seen, record: Mapping[str, Any], keys: Sequence[str], texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows of an extract share their key or text with a seen row, *Shape:* ``(n_rows,)``."""
    if not seen:
        return np.zeros(len(keys), bool)
    by_key = [np.isin(_key_hashes(source, keys), seen[KEYS].numpy()) for source in sources_of(record)]
    return np.isin(_hashes(texts), seen[TEXTS].numpy()) | np.any(by_key, axis=0)


def sources_of(record: Mapping[str, Any]) -> set[str]:
    """Return the identifiers of an extract's table; two extracts that share one are of the same table."""
    return {record["source_id"], record["name"]}


def _load(artifact: Artifact, prefix: str) -> dict[str, torch.Tensor] | None:
    tensors = load(artifact.files[SEEN]) if SEEN in artifact.files else {}
    return {name: tensors[f"{prefix}{name}"] for name in (TEXTS, KEYS) if f"{prefix}{name}" in tensors} or None


def _distinct(columns: Sequence[NDArray[np.int64]]) -> torch.Tensor:
    return torch.from_numpy(np.unique(np.concatenate(columns)))


def _key_hashes(source: str, keys: Sequence[str]) -> NDArray[np.int64]:
    return _hashes([f"{source}\0{key}" for key in keys])


def _hashes(values: Sequence[str]) -> NDArray[np.int64]:
    """Hash texts to 64 bits, enough for millions of rows."""
    digests = b"".join(hashlib.sha256(value.encode()).digest()[:8] for value in values)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)
