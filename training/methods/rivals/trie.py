"""Trie Search: generation that can only spell labels of the taxonomy, each at most once.

Source: Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075), section 3. The tokens that may follow depend on
the generated tokens alone, so the trie works for batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ptec_udf.errors import ConfigError


@dataclass(frozen=True)
class Spelling:
    """How sequences of labels are spelled in tokens: ``A separator B end``.

    Attributes:
        labels: the tokens of each label; they differ and contain neither separator nor end.
        separator: the token between two labels.
        end: the token after the last.
    """

    labels: tuple[tuple[int, ...], ...]
    separator: int
    end: int

    def __post_init__(self) -> None:
        """Refuse labels that could not be read back."""
        special = {self.separator, self.end}
        is_readable = all(tokens and not special & set(tokens) for tokens in self.labels)
        if len(special) < 2 or not is_readable or len(set(self.labels)) < len(self.labels):
            raise ConfigError("labels must differ in their tokens, and separator and end must be in none of them")

    def spell(self, labels: Iterable[int]) -> list[int]:
        """Return the tokens of labels in this order, the end included."""
        tokens: list[int] = []
        for label in labels:
            tokens += [*self.labels[label], self.separator]
        return [*tokens[:-1], self.end]


class LabelTrie:
    """The tokens that may follow: up to ``max_labels`` labels, none of them twice."""

    def __init__(self, spelling: Spelling, max_labels: int, *, may_be_none: bool = False) -> None:
        """Index the beginnings of all labels.

        Args:
            spelling: labels, separator and end.
            max_labels: after this many labels only the end may follow.
            may_be_none: whether a sequence may end without any label.
        """
        self.spelling, self.may_be_none = spelling, may_be_none
        self.max_labels = min(max_labels, len(spelling.labels))
        self._label_of = {tokens: label for label, tokens in enumerate(spelling.labels)}
        self._starting_with: dict[tuple[int, ...], set[int]] = {}
        for label, tokens in enumerate(spelling.labels):
            for length in range(len(tokens) + 1):
                self._starting_with.setdefault(tokens[:length], set()).add(label)

    @property
    def max_tokens(self) -> int:
        """The length of the longest sequence, the end included."""
        return self.max_labels * (max(map(len, self.spelling.labels)) + 1)

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Return the tokens that may follow the generated ones, in rising order; never none."""
        *before, part = _split(generated, self.spelling.separator)
        done = {self._label_of.get(tokens) for tokens in before}
        is_valid = None not in done and len(done) == len(before) < self.max_labels
        candidates = self._starting_with.get(part, set()) - done if is_valid else set()
        following = {tokens[len(part)] for at in candidates if len(tokens := self.spelling.labels[at]) > len(part)}
        if self._label_of.get(part) in candidates:
            following.add(self.spelling.end)
            if len(done) + 1 < self.max_labels:
                following.add(self.spelling.separator)
        if not following or (self.may_be_none and not generated):
            following.add(self.spelling.end)
        return sorted(following)

    def parse(self, generated: Sequence[int]) -> list[int]:
        """Return the labels that a sequence spells; an unfinished last one is left out."""
        tokens = list(generated)
        if self.spelling.end in tokens:
            tokens = tokens[: tokens.index(self.spelling.end)]
        found = [self._label_of.get(part) for part in _split(tokens, self.spelling.separator)]
        return list(dict.fromkeys(label for label in found if label is not None))


def _split(tokens: Sequence[int], separator: int) -> list[tuple[int, ...]]:
    """Cut tokens at the separator; there is always a last part, which may be empty."""
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(part) for part in parts]
