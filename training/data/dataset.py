"""The training rows: an extract read, split and tokenised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptec_udf.engine.batching import length_sorted_batches
from ptec_udf.engine.encoder import Encoder
from ptec_udf.errors import SourceError
from training.data.folder import read_extract_record
from training.data.rows import read_extract_rows

# Batches of one length are drawn from so many shuffled steps at a time: enough to save padding, few enough to stay
# random.
_STEPS_SORTED_TOGETHER = 16


@dataclass(frozen=True)
class Examples:
    """Labelled texts of one split.

    Attributes:
        keys: the companies' keys.
        texts: their texts.
        targets: 0 or 1, *Shape:* ``(n_rows, n_labels)``, float32.
        auxiliary: the same of the extract's auxiliary labels, NaN in rows where they are unknown; None: not wanted.
    """

    keys: list[str]
    texts: list[str]
    targets: np.ndarray
    auxiliary: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.keys)

    def joined(self, other: Examples) -> Examples:
        """Return these rows and then the other ones."""
        targets = np.concatenate([self.targets, other.targets])
        auxiliary = _joined(self.auxiliary, other.auxiliary)
        return Examples(self.keys + other.keys, self.texts + other.texts, targets, auxiliary)

    def only(self, kept: Sequence[int]) -> Examples:
        """Return some of these rows, by their places."""
        auxiliary = None if self.auxiliary is None else self.auxiliary[kept]
        return Examples([self.keys[at] for at in kept], [self.texts[at] for at in kept], self.targets[kept], auxiliary)


@dataclass(frozen=True)
class Rows:
    """Labelled and tokenised texts of one split.

    Attributes:
        inputs: token ids of every row; or what the layers below a prompt make of them, each *Shape:* ``(length,
            width)``, see ``training/fit/layer_cache.py``.
        targets: 0 or 1, *Shape:* ``(n_rows, n_labels)``, float32.
        keys: the companies' keys.
        texts: their texts.
        auxiliary: as in ``Examples``.
        n_cut: how many of the texts were longer than ``max_tokens``.
    """

    inputs: list[Any]
    targets: np.ndarray
    keys: list[str]
    texts: list[str]
    auxiliary: np.ndarray | None = None
    n_cut: int = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.inputs)

    def joined(self, other: Rows) -> Rows:
        """Return these rows and then the other ones."""
        targets = np.concatenate([self.targets, other.targets])
        auxiliary = _joined(self.auxiliary, other.auxiliary)
        keys, texts = self.keys + other.keys, self.texts + other.texts
        return Rows(self.inputs + other.inputs, targets, keys, texts, auxiliary, self.n_cut + other.n_cut)


def read_splits(
    folder: str | Path, *, validation_share: float, most_rows: int | None = None, auxiliary: bool = False
) -> dict[str, Examples]:
    """Read the labelled rows of an extract.

    Train is parted by a hash of the text into ``train`` and ``validation``; ``dev`` and ``test`` come as they are.

    Args:
        folder: the extract.
        validation_share: share of train that becomes validation.
        most_rows: keep so many rows of train and validation together, those with the smallest hashes.
        auxiliary: read the extract's auxiliary labels too.

    Raises:
        SourceError: for rows that are not those of the record, and when train or validation has no row with a label, or
            train none with an auxiliary one that is wanted.
    """
    record = read_extract_record(folder)
    columns = ("labels", "auxiliary") if auxiliary else ("labels",)  # lists in the record too
    names = {column: [label["name"] for label in record[column]] for column in columns}
    table = read_extract_rows(folder, record, columns[1:])
    order = [("text_hash", "ascending"), ("key", "ascending")]  # files and their rows come in any
    rows = [row for row in table.sort_by(order).to_pylist() if row["labels"] is not None]
    training_rows = [row for row in rows if row["split"] == "train"][:most_rows]
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    for row in training_rows:
        parts["validation" if hash_share(row["text_hash"]) < validation_share else "train"].append(row)
    for split in ("dev", "test"):
        parts[split] = [row for row in rows if row["split"] == split]
    splits = {split: _examples(part, names) for split, part in parts.items()}
    positives = [int(splits[split].targets.sum()) for split in ("train", "validation")]
    if not all(positives):
        raise SourceError(
            f"train and validation both need rows with a label, had {positives[0]} and {positives[1]} labels on "
            f"{len(splits['train'])} and {len(splits['validation'])} rows; add companies or change validation_share"
        )
    if (known := splits["train"].auxiliary) is not None and np.isnan(known).all():
        raise SourceError(
            f"train needs rows with an auxiliary label, had none on {len(splits['train'])} rows; give more companies "
            "or leave auxiliary out"
        )
    return splits


def read_judging(folder: str | Path, split: str) -> Examples:
    """Read the labelled rows of one split as it stands in an extract, in the order of their keys.

    Raises:
        SourceError: for rows that are not those of the record, and when there is none.
    """
    record = read_extract_record(folder)
    names = [label["name"] for label in record["labels"]]
    table = read_extract_rows(folder, record).sort_by("key")
    rows = [row for row in table.to_pylist() if row["labels"] is not None and row["split"] == split]
    if not rows:
        raise SourceError(f"split must name labelled rows, {str(folder)!r} has none of {split!r}; name another")
    return _examples(rows, {"labels": names})


def hash_share(text_hash: str) -> float:
    """Map a text's hash to [0, 1); the last digits, since most_rows takes rows by the first."""
    return int(text_hash[-8:], 16) / 2**32


def _examples(rows: list[dict[str, Any]], names: Mapping[str, Sequence[str]]) -> Examples:
    """Lay the labels of rows out as targets."""
    targets = {column: _targets([row[column] for row in rows], those) for column, those in names.items()}
    return Examples(
        [row["key"] for row in rows], [row["text"] for row in rows], targets["labels"], targets.get("auxiliary")
    )


def _targets(labels: Sequence[Sequence[str] | None], names: Sequence[str]) -> np.ndarray:
    """Lay labels of rows out, *Shape:* ``(n_rows, n_names)``; a row that is not labelled is NaN."""
    column = {name: at for at, name in enumerate(names)}
    targets = np.zeros((len(labels), len(names)), dtype=np.float32)
    for row, of_row in zip(targets, labels, strict=True):
        if of_row is None:
            row[:] = np.nan
        else:
            row[[column[name] for name in of_row]] = 1
    return targets


def _joined(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    return None if first is None or second is None else np.concatenate([first, second])


def tokenised(examples: Examples, encoder: Encoder) -> Rows:
    """Tokenise texts; one without tokens is left out."""
    encoded = encoder.encode(examples.texts) if len(examples) else []
    kept = [at for at, text in enumerate(encoded) if text.ids]
    left, n_cut = examples.only(kept), sum(encoded[at].n_truncated > 0 for at in kept)
    return Rows([encoded[at].ids for at in kept], left.targets, left.keys, left.texts, left.auxiliary, n_cut)


def training_steps(lengths: Sequence[int], *, batch_rows: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Deal shuffled rows into steps of rows of about one length; each row once, in random order of steps."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pool_rows = batch_rows * _STEPS_SORTED_TOGETHER
    steps: list[list[int]] = []
    for start in range(0, len(order), pool_rows):
        pool = sorted(order[start : start + pool_rows], key=lambda row: lengths[row])
        steps += [pool[at : at + batch_rows] for at in range(0, len(pool), batch_rows)]
    for at in torch.randperm(len(steps), generator=generator).tolist():
        yield steps[at]


def drop_tokens(text: list[int] | torch.Tensor, share: float) -> list[int] | torch.Tensor:
    """Leave out a random share of a text's inner tokens, or of their states; first and last, often special, stay.

    A text then reads differently in each epoch, which keeps a small training set from being learned by heart.
    Source: Iyyer et al., "Deep unordered composition rivals syntactic methods", ACL 2015 (word dropout).
    Draws from torch's process-wide generator.
    """
    if not share:
        return text
    kept = torch.rand(len(text)) >= share
    kept[0] = kept[-1] = True
    if isinstance(text, torch.Tensor):
        return text[kept]
    return [token for token, stays in zip(text, kept.tolist(), strict=True) if stays]


def micro_batches(rows: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Part one step's rows into forward passes under a budget of positions."""
    for batch in length_sorted_batches([lengths[row] for row in rows], batch_tokens):
        yield [rows[at] for at in batch]
