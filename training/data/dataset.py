"""Training rows: an extract read, split, tokenised and batched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import MultiLabelBinarizer

from ptec_training.data.folder import read_extract_record, read_extract_rows
from ptec_udf.engine.encoder import Encoder
from ptec_udf.errors import SourceError

# Steps of similar length are cut from this many shuffled steps: enough to save padding, few enough to stay random.
_STEPS_SORTED_TOGETHER = 16


@dataclass(frozen=True)
class Examples:
    """Keys, texts and targets (0 or 1, *Shape:* ``(n_rows, n_labels)``, float32) of labelled companies."""

    keys: list[str]
    texts: list[str]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def concat(self, other: Examples) -> Examples:
        """Return these rows followed by the other ones."""
        return Examples(self.keys + other.keys, self.texts + other.texts, np.concatenate([self.targets, other.targets]))

    def select(self, positions: Sequence[int]) -> Examples:
        """Return the rows at some positions."""
        keys, texts = ([column[at] for at in positions] for column in (self.keys, self.texts))
        return Examples(keys, texts, self.targets[positions])


@dataclass(frozen=True)
class Rows(Examples):
    """Labelled and tokenised texts of one split; ``n_cut`` of them were longer than ``max_tokens``.

    ``inputs`` are token ids of each row, or states of the frozen lower layers, each *Shape:* ``(length, width)``.
    """

    inputs: list[Any] = field(default_factory=list)
    n_cut: int = 0

    def concat(self, other: Examples) -> Rows:
        """Return these rows followed by other tokenised ones."""
        assert isinstance(other, Rows)
        both = super().concat(other)
        return Rows(both.keys, both.texts, both.targets, self.inputs + other.inputs, self.n_cut + other.n_cut)


def read_splits(
    folder: str | Path, *, validation_share: float, max_rows: int | None = None, others: Sequence[str] = ()
) -> dict[str, Examples]:
    """Read the labelled rows of an extract; a share of train, by a hash of the text, becomes validation.

    ``max_rows`` of both together are the rows with the smallest hashes. Of dev and test only ``others`` are read. Raise
    a SourceError for rows that do not match the record, or a train or validation without any label.
    """
    rows, names = _read_labelled(folder, ("train", *others))
    train = rows[rows["split"] == "train"][:max_rows]
    # By the last digits of the hash: max_rows selects rows by the first ones.
    is_validation = train["text_hash"].map(lambda text_hash: int(text_hash[-8:], 16) / 2**32) < validation_share
    parts = {"train": train[~is_validation], "validation": train[is_validation]}
    parts |= {split: rows[rows["split"] == split] for split in others}
    splits = {split: _examples(part, names) for split, part in parts.items()}
    n_train, n_validation = (int(splits[split].targets.sum()) for split in ("train", "validation"))
    if not (n_train and n_validation):
        raise SourceError(
            f"train and validation both need rows with a label, had {n_train} and {n_validation} labels on "
            f"{len(splits['train'])} and {len(splits['validation'])} rows; add companies or change validation_share"
        )
    return splits


def read_split(folder: str | Path, split: str) -> Examples:
    """Read the labelled rows of one split; raise a SourceError where there are none or they do not match the record."""
    rows, names = _read_labelled(folder, (split,))
    if rows.empty:
        raise SourceError(f"split must have labelled rows, {str(folder)!r} has none of {split!r}; name another split")
    return _examples(rows, names)


def _read_labelled(folder: str | Path, splits: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the labelled rows and the names of the labels."""
    record = read_extract_record(folder)
    rows = read_extract_rows(folder, record, splits)
    return rows[rows["labels"].notna()], [label["name"] for label in record["labels"]]


def _examples(rows: pd.DataFrame, names: Sequence[str]) -> Examples:
    targets = MultiLabelBinarizer(classes=names).fit_transform(rows["labels"])
    return Examples(rows["key"].tolist(), rows["text"].tolist(), targets.astype(np.float32))


def tokenise(examples: Examples, encoder: Encoder) -> Rows:
    """Tokenise texts; a text without tokens is left out."""
    encoded = encoder.encode(examples.texts) if len(examples) else []
    kept = [at for at, text in enumerate(encoded) if text.ids]
    left, n_cut = examples.select(kept), sum(encoded[at].n_truncated > 0 for at in kept)
    return Rows(left.keys, left.texts, left.targets, [encoded[at].ids for at in kept], n_cut)


def training_steps(lengths: Sequence[int], *, batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Yield the rows of each step of an epoch: shuffled, but of similar length within a step."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    n_sorted = batch_size * _STEPS_SORTED_TOGETHER
    steps: list[list[int]] = []
    for start in range(0, len(order), n_sorted):
        pool = sorted(order[start : start + n_sorted], key=lambda row: lengths[row])
        steps += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    for at in torch.randperm(len(steps), generator=generator).tolist():
        yield steps[at]


def drop_tokens(text: list[int] | torch.Tensor, share: float) -> list[int] | torch.Tensor:
    """Drop a random share of a text's inner tokens, or of their states; the first and last, often special, stay.

    Source: Iyyer et al., "Deep unordered composition rivals syntactic methods", ACL 2015 (word dropout).
    """
    if not share:
        return text
    kept = torch.rand(len(text)) >= share
    kept[0] = kept[-1] = True
    if isinstance(text, torch.Tensor):
        return text[kept]
    return [token for token, is_kept in zip(text, kept.tolist(), strict=True) if is_kept]
