"""Texts to token ids, cut by our own rule so that every cut token is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EncodedText:
    """Ids of one text with its special tokens; ``n_truncated`` ids were cut off."""

    ids: list[int]
    n_truncated: int


class Encoder:
    """A tokeniser with the artifact's maximum length.

    Special tokens ([CLS] and [SEP], or a begin token) always survive; what is cut is the text's end.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        """Learn which special tokens the tokeniser puts around a text."""
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = tokenizer("a")["input_ids"]
        start = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
        self.before, self.after = whole[:start], whole[start + len(bare) :]
        self.n_special = len(self.before) + len(self.after)
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Turn texts into ids; a text without any token of its own gets an empty list."""
        batch = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
        return [self._wrap(ids) for ids in batch["input_ids"]]

    def _wrap(self, ids: list[int]) -> EncodedText:
        """Cut to the room that special tokens leave, then put them around."""
        if not ids:
            return EncodedText([], 0)
        room = self.max_tokens - self.n_special
        return EncodedText(self.before + ids[:room] + self.after, max(0, len(ids) - room))
