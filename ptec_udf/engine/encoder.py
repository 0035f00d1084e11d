"""Texts to token ids, cut by our own rule, so that each cut token is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ptec_udf.errors import BackboneError
from ptec_udf.model.manifest import LONGEST_SEGMENT, Cut, Manifest
from ptec_udf.text.cut import cuts_at_end, limit_characters, select_tokens
from ptec_udf.text.template import parse_template

CHARACTERS_PER_TOKEN = 16
"""Characters that are tokenised for each token that is kept; the rest of a longer text is never read."""

_MAX_CHARACTERS_AT_ONCE = 2**20  # tokens take far more memory than characters


@dataclass(frozen=True)
class EncodedText:
    """Token ids of a text, special tokens included, and the number of tokens that were cut.

    ``n_truncated`` is exact for texts of at most ``CHARACTERS_PER_TOKEN * max_tokens`` characters. For longer ones the
    unread characters are counted at the rate of the read ones.
    """

    ids: list[int]
    n_truncated: int


class TokenizerError(RuntimeError):
    """Raised if the tokenizer's native code fails; its own exceptions would end the worker."""


class Encoder:
    """A tokenizer with a maximum length and a rule for cutting; special tokens such as [CLS] are always kept.

    Attributes:
        max_texts: number of texts that ``encode`` may get at once.
        before, after: ids of the special tokens around a text.
    """

    pad_id = 0  # any id serves: padding is masked

    def __init__(self, tokenizer: Any, max_tokens: int, template: str | None = None) -> None:
        """Take a ``tokenizers.Tokenizer``, or a transformers tokenizer backed by one; find its special tokens.

        Args:
            tokenizer: see above.
            max_tokens: maximum length, special tokens included.
            template: of the texts; None: cut any text at its end.

        Raises:
            BackboneError: for a tokenizer without a ``tokenizers`` backend.
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
        parsed = None if template is None else parse_template(template)
        self.template = None if parsed is None or cuts_at_end(parsed) else parsed

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
        """Return ids; a text without any token gets an empty list.

        Raises:
            TokenizerError: if the tokenizer's native code fails.
        """
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
        """Cut the tokens of the read part ``text`` and add special tokens."""
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
