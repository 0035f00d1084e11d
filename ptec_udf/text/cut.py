"""Cut a long text at the end of its longest segments, so that one long field does not push out the fields after it.

The cut depends on the text and the template alone: equal texts get equal scores. Segments are found in the finished
text by the words before their values. A value that contains these words may be split there.

The *opening* of a segment is its separator and heading. Openings and the template's tail are kept; values are cut.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from ptec_udf.text.template import Template


class Span(NamedTuple):
    """Character positions of a segment."""

    start: int
    opening_end: int
    end: int


def find_spans(text: str, template: Template) -> list[Span]:
    """Find the segments that a text has, in the template's order, from 0 to the template's tail.

    The first opening is empty if the text does not start with a heading.
    """
    end = len(text) - len(template.tail) if text.endswith(template.tail) else len(text)
    named = [segment for segment in template.segments if segment.heading]  # only the first one may lack a heading
    first = next((at for at, segment in enumerate(named) if text.startswith(segment.heading, 0, end)), None)
    openings = [(0, 0 if first is None else len(named[first].heading))]
    for segment in named if first is None else named[first + 1 :]:
        opening = segment.separator + segment.heading
        start = text.find(opening, openings[-1][1], end)
        if start >= 0:
            openings.append((start, start + len(opening)))
    ends = [*(start for start, _ in openings[1:]), end]
    return [Span(*opening, end) for opening, end in zip(openings, ends, strict=True)]


def limit_characters(text: str, template: Template | None, max_characters: int) -> str:
    """Cut a text to at most ``max_characters`` characters, at its end (no template) or by segments."""
    if len(text) <= max_characters:
        return text
    if template is None:
        return text[:max_characters]
    return "".join(text[at] for at in select_tokens(text, range(len(text)), template, max_characters))


def select_tokens(text: str, starts: Sequence[int], template: Template, room: int) -> list[int]:
    """Choose the ``room`` tokens of a text that are kept, fewer than it has; return their indices in order.

    ``starts`` are the characters at which its tokens start. If openings and tail alone are too many, the part before
    the tail is cut at its end; if the tail alone is, the whole text.
    """
    starts = list(accumulate(starts, max))  # a normaliser may swap characters; segments stay runs of tokens
    spans = find_spans(text, template)
    firsts = [0, *(bisect_left(starts, span.start) for span in spans[1:])]
    end = bisect_left(starts, spans[-1].end)
    tail = range(end, len(starts))
    minimums = [bisect_left(starts, span.opening_end) - first for span, first in zip(spans, firsts, strict=True)]
    if len(tail) > room:
        return list(range(room))
    if sum(minimums) + len(tail) > room:
        return [*range(room - len(tail)), *tail]
    lengths = [last - first for first, last in zip(firsts, [*firsts[1:], end], strict=True)]
    kept = share_budget(lengths, minimums, room - len(tail))
    return [at for first, n in zip(firsts, kept, strict=True) for at in range(first, first + n)] + [*tail]


def share_budget(lengths: Sequence[int], minimums: Sequence[int], room: int) -> list[int]:
    """Shorten the longest segments to a common level, but none below its minimum, so that all fill the room."""

    def at_level(level: int) -> list[int]:
        return [max(minimum, min(length, level)) for length, minimum in zip(lengths, minimums, strict=True)]

    level = bisect_right(range(max(lengths)), room, key=lambda level: sum(at_level(level))) - 1
    kept, higher = at_level(level), at_level(level + 1)
    longer = [at for at, more in enumerate(higher) if more > kept[at]]
    for at in longer[: room - sum(kept)]:  # the first segments get the rest
        kept[at] += 1
    return kept
