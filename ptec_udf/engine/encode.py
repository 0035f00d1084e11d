"""Texts to token ids, cut by our own rule so that every cut token is counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ptec_udf.engine.cut import cuts_at_end, kept
from ptec_udf.model.manifest import Cut, Manifest
from ptec_udf.text import parse_template


@dataclass(frozen=True)
class EncodedText:
    """Ids of one text with its special tokens; ``n_truncated`` ids were cut off."""

    ids: list[int]
    n_truncated: int


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
        """Cut as the texts were that a model has learned from; it must have a backbone."""
        assert manifest.max_tokens is not None
        return cls(tokenizer, manifest.max_tokens, manifest.template if manifest.cut == "longest_segment" else None)

    @property
    def cut(self) -> Cut:
        """How texts are cut, for the manifest."""
        return "end" if self.template is None else "longest_segment"

    def cuts_like(self, other: Encoder) -> bool:
        """Tell whether another encoder on this tokeniser gives each text the same ids."""
        return (self.max_tokens, self.template) == (other.max_tokens, other.template)

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Turn texts into ids; a text without any token of its own gets an empty list."""
        batch = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
        pairs = list(zip(texts, batch["input_ids"], strict=True))
        room = self.max_tokens - self.n_special
        short = self._cut({text for text, ids in pairs if len(ids) > room}, room)
        return [self._wrap(ids, short.get(text, ids[:room])) for text, ids in pairs]

    def _cut(self, texts: Iterable[str], room: int) -> dict[str, list[int]]:
        """Tokenise texts that are too long again, now with the places of tokens; return the ids that stay."""
        if self.template is None or not (texts := list(texts)):
            return {}
        options = {"return_attention_mask": False, "return_offsets_mapping": True}
        batch = self.tokenizer(texts, add_special_tokens=False, **options)
        short = {}
        for text, ids, offsets in zip(texts, batch["input_ids"], batch["offset_mapping"], strict=True):
            short[text] = [ids[at] for at in kept(text, [start for start, _ in offsets], self.template, room)]
        return short

    def _wrap(self, ids: list[int], short: list[int]) -> EncodedText:
        """Put special tokens around what stays of a text."""
        if not ids:
            return EncodedText([], 0)
        return EncodedText(self.before + short + self.after, len(ids) - len(short))
