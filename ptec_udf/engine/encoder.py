"""Texts to token ids, cut by our own rule, so that each cut token is counted; and ids to batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.errors import BackboneError
from ptec_udf.model.manifest import LONGEST_SEGMENT, Cut, Manifest
from ptec_udf.text.cut import limit_characters, select_tokens
from ptec_udf.text.template import parse_template

CHARACTERS_PER_TOKEN = 16  # tokenised for each token that is kept; the rest of a longer text is never read

_MAX_CHARACTERS_AT_ONCE = 2**20  # tokens take far more memory than characters


@dataclass(frozen=True)
class EncodedText:
    """Token ids of a text, special tokens included, and the number of tokens that were cut.

    Of a text that is longer than the characters read, the unread ones are counted at the rate of the read ones.
    """

    ids: list[int]
    n_truncated: int


class TokenizerError(RuntimeError):
    """The tokenizer's native code failed; its own exceptions would end the worker."""


class Encoder:
    """A tokenizer with a maximum length and a rule for cutting; special tokens such as [CLS] are always kept.

    ``encode`` takes at most ``max_texts`` texts; ``before`` and ``after`` are the special tokens around a text.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, template: str | None = None) -> None:
        """Take a ``tokenizers.Tokenizer``, or a transformers tokenizer backed by one.

        ``max_tokens`` counts special tokens too. Without a ``template`` any text is cut at its end.
        """
        self.tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(self._backend, "encode_batch"):
            raise BackboneError("the backbone must have a fast tokenizer: add tokenizer.json to its folder")
        self._backend.no_truncation()  # a tokenizer.json may switch both on
        self._backend.no_padding()
        self.max_tokens = max_tokens
        self._max_characters = max_tokens * CHARACTERS_PER_TOKEN
        self.max_texts = max(1, _MAX_CHARACTERS_AT_ONCE // self._max_characters)
        bare = self._backend.encode("a", add_special_tokens=False).ids
        whole = self._backend.encode("a").ids
        start = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
        self.before, self.after = whole[:start], whole[start + len(bare) :]
        self.template = parse_template(template) if template else None
        if self.template and len(self.template.segments) == 1 and not self.template.tail:
            self.template = None  # all its texts are cut at their end

    @classmethod
    def from_manifest(cls, manifest: Manifest, tokenizer: Any) -> Encoder:
        """Cut texts as in the model's training; the model must have a backbone."""
        assert manifest.max_tokens is not None
        return cls(tokenizer, manifest.max_tokens, manifest.template if manifest.cut == LONGEST_SEGMENT else None)

    @property
    def cut(self) -> Cut:
        """The rule for cutting, as in the manifest."""
        return "end" if self.template is None else LONGEST_SEGMENT

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Return ids, none for a text without any token; raise TokenizerError if native code fails."""
        read = [limit_characters(text, self.template, self._max_characters) for text in texts]
        try:
            encodings = self._backend.encode_batch(read, add_special_tokens=False)
        except BaseException as error:
            # A panic of native code is no Exception, and its other errors are of class Exception itself.
            if type(error).__module__ == "pyo3_runtime" or type(error) is Exception:
                raise TokenizerError from None
            raise
        return [self._cut(text, len(whole), found) for whole, text, found in zip(texts, read, encodings, strict=True)]

    def _cut(self, text: str, n_characters: int, encoding: Any) -> EncodedText:
        ids = encoding.ids
        if not ids:
            return EncodedText([], 0)
        room = self.max_tokens - len(self.before) - len(self.after)
        n_unread = math.ceil((n_characters - len(text)) * len(ids) / len(text))
        n_cut = max(0, len(ids) - room)
        if n_cut and self.template is not None:
            starts = [start for start, _ in encoding.offsets]
            ids = [ids[at] for at in select_tokens(text, starts, self.template, room)]
        return EncodedText([*self.before, *ids[:room], *self.after], n_cut + n_unread)


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
