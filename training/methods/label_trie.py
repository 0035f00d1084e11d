"""Trie Search: generation that can only spell labels of the taxonomy, each at most once.

Source: Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075), section 3. The tokens that may follow depend on
the generated tokens alone, so the trie works for batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ptec_udf.errors import ConfigError


@dataclass(frozen=True)
class LabelTrie:
    """Sequences of up to ``max_labels`` labels, spelled in tokens as ``A separator B end``.

    The tokens of labels differ and contain neither separator nor end. ``may_be_none``: no label is a sequence too.
    """

    labels: tuple[tuple[int, ...], ...]
    separator: int
    end: int
    max_labels: int = 3
    may_be_none: bool = False

    def __post_init__(self) -> None:
        special = {self.separator, self.end}
        is_readable = all(tokens and not special & set(tokens) for tokens in self.labels)
        if len(special) < 2 or not is_readable or len(set(self.labels)) < len(self.labels):
            raise ConfigError("labels must differ in their tokens, and separator and end must be in none of them")

    @property
    def max_tokens(self) -> int:
        """The length of the longest sequence, the end included."""
        return min(self.max_labels, len(self.labels)) * (max(map(len, self.labels)) + 1)

    def spell(self, labels: Iterable[int]) -> list[int]:
        """Return the tokens of labels in this order, the end included."""
        tokens: list[int] = []
        for label in labels:
            tokens += [*self.labels[label], self.separator]
        return [*tokens[:-1], self.end]

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Return the tokens that may follow the generated ones, in rising order; never none."""
        *done, part = self._split(generated)
        is_valid = set(done) <= set(self.labels) and len(set(done)) == len(done) < self.max_labels
        candidates = [label for label in self.labels if is_valid and label not in done and label[: len(part)] == part]
        following = {label[len(part)] for label in candidates if len(label) > len(part)}
        if part in candidates:
            following.add(self.end)
            if len(done) + 1 < min(self.max_labels, len(self.labels)):
                following.add(self.separator)
        if not following or (self.may_be_none and not generated):
            following.add(self.end)
        return sorted(following)

    def parse(self, generated: Sequence[int]) -> list[int]:
        """Return the labels that a sequence spells; an unfinished last one is left out."""
        tokens = list(generated)
        parts = self._split(tokens[: tokens.index(self.end)] if self.end in tokens else tokens)
        return [self.labels.index(part) for part in dict.fromkeys(parts) if part in self.labels]

    def _split(self, tokens: Sequence[int]) -> list[tuple[int, ...]]:
        """Cut tokens at the separator; there is always a last part, which may be empty."""
        parts: list[list[int]] = [[]]
        for token in tokens:
            if token == self.separator:
                parts.append([])
            else:
                parts[-1].append(token)
        return [tuple(part) for part in parts]
