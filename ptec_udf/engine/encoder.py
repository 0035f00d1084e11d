"""Texts to token ids, cut by our own rule so that every cut token is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ptec_udf.errors import BackboneError
from ptec_udf.model.manifest import LONGEST_SEGMENT, Cut, Manifest
from ptec_udf.text.cut import cuts_at_end, select_tokens
from ptec_udf.text.template import parse_template


@dataclass(frozen=True)
class EncodedText:
    """Ids of one text with its special tokens; ``n_truncated`` ids were cut off."""

    ids: list[int]
    n_truncated: int


class TokeniserPanic(RuntimeError):
    """Raised in place of what a panic in Rust code becomes, which is no ``Exception`` and would end the worker."""


class Encoder:
    """A tokeniser with the artifact's maximum length and its way to cut.

    Special tokens ([CLS] and [SEP], or a begin token) always survive. What is cut is the end of the longest segments,
    see ``cut.py``, or the text's end.

    Attributes:
        template: by which segments are found; None where texts are cut at their end.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, template: str | None = None) -> None:
        """Learn which special tokens the tokeniser puts around a text.

        Args:
            tokenizer: of the backbone. A slow one, which does not tell where tokens begin, cuts texts at their end.
            max_tokens: of a text, special tokens included.
            template: that makes the texts; None: texts are cut at their end, whatever they are.

        Raises:
            ConfigError: for a template that cannot be parsed.
        """
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = tokenizer("a")["input_ids"]
        start = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
        self.before, self.after = whole[:start], whole[start + len(bare) :]
        self.n_special = len(self.before) + len(self.after)
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        parsed = None if template is None or not getattr(tokenizer, "is_fast", False) else parse_template(template)
        self.template = None if parsed is None or cuts_at_end(parsed) else parsed

    @classmethod
    def of(cls, manifest: Manifest, tokenizer: Any) -> Encoder:
        """Cut as the texts were that a model has learned from; it must have a backbone.

        Raises:
            BackboneError: for a tokeniser that cannot.
        """
        assert manifest.max_tokens is not None
        encoder = cls(tokenizer, manifest.max_tokens, manifest.template if manifest.cut == LONGEST_SEGMENT else None)
        if encoder.cut != manifest.cut:
            raise BackboneError("the tokeniser here does not tell where tokens begin: it cannot cut as the model does")
        return encoder

    @property
    def cut(self) -> Cut:
        """How texts are cut, for the manifest."""
        return "end" if self.template is None else LONGEST_SEGMENT

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Turn texts into ids; a text without any token of its own gets an empty list.

        Raises:
            TokeniserPanic: when the tokeniser's native code gives up.
        """
        try:
            batch = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
        except BaseException as error:
            # Panics of native code are no Exception, and what it refuses is nothing more than one.
            if type(error).__module__ == "pyo3_runtime" or type(error) is Exception:
                raise TokeniserPanic from None
            raise
        rows = enumerate(zip(texts, batch["input_ids"], strict=True))
        return [self._wrap(text, ids, batch, row) for row, (text, ids) in rows]

    def _wrap(self, text: str, ids: list[int], batch: Any, row: int) -> EncodedText:
        """Cut a text, a row of the tokenised batch, to the room that special tokens leave, and put them around."""
        room = self.max_tokens - self.n_special
        if not ids or len(ids) <= room:
            return EncodedText([*self.before, *ids, *self.after] if ids else [], 0)
        if self.template is None:
            stay = ids[:room]
        else:
            starts = [start for start, _ in batch.encodings[row].offsets]
            stay = [ids[at] for at in select_tokens(text, starts, self.template, room)]
        return EncodedText(self.before + stay + self.after, len(ids) - room)
