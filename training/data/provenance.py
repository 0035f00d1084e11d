"""What a model has learned from, as hashes: such rows must not judge it later.

An artifact keeps them in ``seen.safetensors``: ``texts`` and ``keys``, int64, sorted, each once. What a recalibration
has fitted calibration or thresholds to stands there as ``fitted.texts`` and ``fitted.keys``. A text is a text
anywhere, and a company is the same company whatever its text says now; its key names it within one source. That is a
table by Delta's id or by its name: ``CREATE OR REPLACE TABLE`` changes the id, a renaming the name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save

from ptec_udf.model.artifact import Artifact
from ptec_udf.model.artifact_format import SEEN
from training.data.dataset import Examples

TEXTS, KEYS = "texts", "keys"
_FITTED = "fitted."

Seen = Mapping[str, torch.Tensor]


def seen_in(
    record: Mapping[str, Any], parts: Iterable[Examples], earlier: Seen | None = None
) -> dict[str, torch.Tensor]:
    """Hash the rows of a training.

    Args:
        record: of the extract that the rows are from.
        parts: all rows that decide anything in it.
        earlier: what the model that it starts from has learned from.
    """
    parts = list(parts)
    texts = [_hashes(part.texts) for part in parts]
    keys = [_hashes(_named(source, part.keys)) for part in parts for source in sources_of(record)]
    if earlier is not None:
        texts, keys = [*texts, earlier[TEXTS].numpy()], [*keys, earlier[KEYS].numpy()]
    found = {TEXTS: texts, KEYS: keys}
    return {name: _each_once(columns) for name, columns in found.items()}


def seen_by(made: Artifact) -> dict[str, torch.Tensor] | None:
    """Return what an artifact says that it has learned from; None where it does not say."""
    found = {name: values for name, values in _file_of(made).items() if not name.startswith(_FITTED)}
    return found or None


def fitted_by(made: Artifact) -> dict[str, torch.Tensor] | None:
    """Return to what a recalibration has fitted an artifact; None where it does not say."""
    found = {name: values for name, values in _file_of(made).items() if name.startswith(_FITTED)}
    return {name.removeprefix(_FITTED): values for name, values in found.items()} or None


def with_fitted(made: Artifact, rows: Seen, *, beside_earlier: bool) -> bytes:
    """Make the file of an artifact that is fitted to some rows, in place of those of earlier fits or beside them."""
    parts = [rows, *([fitted_by(made) or {}] if beside_earlier else [])]
    fitted = {name: _each_once([part[name].numpy() for part in parts if part]) for name in rows}
    return save({**(seen_by(made) or {}), **{f"{_FITTED}{name}": values for name, values in fitted.items()}})


def _file_of(made: Artifact) -> dict[str, torch.Tensor]:
    return load(made.files[SEEN]) if SEEN in made.files else {}


def is_seen(seen: Seen, record: Mapping[str, Any], keys: Sequence[str], texts: Sequence[str]) -> NDArray[np.bool_]:
    """Say of each row of an extract, given by key and text, whether either was learned from, *Shape:* ``(n_rows,)``."""
    named = [np.isin(_hashes(_named(source, keys)), seen[KEYS].numpy()) for source in sources_of(record)]
    return np.isin(_hashes(texts), seen[TEXTS].numpy()) | np.any(named, axis=0)


def sources_of(record: Mapping[str, Any]) -> set[str]:
    """Return what the table of an extract is called; two extracts are of one table if they share any of it."""
    return {record["source_id"], record["name"]}


def _named(source: str, keys: Sequence[str]) -> list[str]:
    """Names that no other source's companies have."""
    return [f"{source}\0{key}" for key in keys]


def _each_once(columns: Sequence[NDArray[np.int64]]) -> torch.Tensor:
    return torch.from_numpy(np.unique(np.concatenate(columns)))


def _hashes(values: Sequence[str]) -> NDArray[np.int64]:
    """Hash texts to 64 bits, enough to tell millions apart."""
    digests = b"".join(hashlib.sha256(value.encode()).digest()[:8] for value in values)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)
