"""Trie Search: generation that can only spell labels of the taxonomy, each at most once.

Source: Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075), section 3. Different from the published code:
what may follow is a function of the generated tokens alone and keeps no state, so it holds for beams and batches;
and the separator is the token that the targets use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ptec_udf.errors import ConfigError


@dataclass(frozen=True)
class Spelling:
    """How sequences of labels are spelled in tokens: ``A separator B end``.

    Attributes:
        labels: the tokens of each label.
        separator: the token between two labels.
        end: the token after the last.
    """

    labels: tuple[tuple[int, ...], ...]
    separator: int
    end: int

    def __post_init__(self) -> None:
        """Refuse labels that could not be told from each other, or from their neighbours."""
        faults = []
        if self.separator == self.end:
            faults.append(f"separator and end must be two tokens, were both {self.end}")
        for at, tokens in enumerate(self.labels):
            if not tokens:
                faults.append(f"every label must have a token, label {at} has none")
            if self.separator in tokens or self.end in tokens:
                faults.append(f"no label may hold the separator or the end, label {at} does")
        if len(set(self.labels)) < len(self.labels):
            faults.append("no two labels may have the same tokens")
        if faults:
            raise ConfigError(faults)

    def spelled(self, order: Sequence[int]) -> list[int]:
        """Return the tokens of labels in an order, the end included."""
        tokens: list[int] = []
        for label in order:
            tokens += [*self.labels[label], self.separator]
        return [*tokens[:-1], self.end]


class LabelTrie:
    """Says which tokens may follow.

    Every sequence that it lets end spells up to ``most_labels`` labels, none of them twice, and there is exactly one
    way to read it.
    """

    def __init__(self, spelling: Spelling, most_labels: int, *, may_be_none: bool = False) -> None:
        """Build the trie.

        Args:
            spelling: labels, separator and end.
            most_labels: after so many labels only the end may follow; at least 1.
            may_be_none: whether a sequence may end without any label.
        """
        if most_labels < 1:
            raise ConfigError(f"most_labels must be at least 1, was: {most_labels}")
        self.spelling = spelling
        self.may_be_none = may_be_none
        self.most_labels = min(most_labels, len(spelling.labels))
        self._label_of = {tokens: label for label, tokens in enumerate(spelling.labels)}
        self._under: dict[tuple[int, ...], set[int]] = {}
        for label, tokens in enumerate(spelling.labels):
            for length in range(len(tokens) + 1):
                self._under.setdefault(tokens[:length], set()).add(label)

    @property
    def most_tokens(self) -> int:
        """The length of the longest sequence, the end included."""
        return self.most_labels * (max(len(tokens) for tokens in self.spelling.labels) + 1)

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Return the tokens that may follow, in rising order; never none.

        After the end, and after what no sequence begins with, it is the end again.

        Args:
            generated: the tokens so far, without what was given to the model.
        """
        done, part = self._read(generated)
        if done is None:
            return [self.spelling.end]
        open_labels = self._under[part] - set(done)
        following = {self.spelling.labels[label][len(part)] for label in open_labels if self._longer(label, part)}
        if self.may_be_none and not generated:
            following.add(self.spelling.end)
        label = self._label_of.get(part)
        if label is not None and label not in done:
            following.add(self.spelling.end)
            others_left = len(done) + 1 < self.most_labels
            following |= {self.spelling.separator} if others_left else set()
        return sorted(following)

    def parse(self, generated: Sequence[int]) -> list[int]:
        """Return the labels that a sequence spells, in its order; an unfinished last one is left out."""
        tokens = list(generated)
        if self.spelling.end in tokens:
            tokens = tokens[: tokens.index(self.spelling.end)]
        found: list[int] = []
        for part in _parts(tokens, self.spelling.separator):
            label = self._label_of.get(part)
            if label is not None and label not in found:
                found.append(label)
        return found

    def _read(self, generated: Sequence[int]) -> tuple[list[int] | None, tuple[int, ...]]:
        """Return the labels that are done and the tokens of the next; None where no label can follow."""
        *before, part = _parts(generated, self.spelling.separator)
        done = [self._label_of.get(tokens, -1) for tokens in before]
        is_open = -1 not in done and len(set(done)) == len(done) and self._under.get(part, set()) - set(done)
        return (done, part) if is_open and len(done) < self.most_labels else (None, part)

    def _longer(self, label: int, part: tuple[int, ...]) -> bool:
        return len(self.spelling.labels[label]) > len(part)


def _parts(tokens: Sequence[int], separator: int) -> list[tuple[int, ...]]:
    """Cut tokens at the separator; there is always a last part, which may be empty."""
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(part) for part in parts]
