"""Cut a long text from the end of its longest segment, so that one long field does not push out those after it.

What is cut is a function of text and template alone, since equal texts must have equal scores: segments are found in
the finished text, by the words that stand before their values. Where a value holds such words itself, it may be taken
for two segments, or for another one, and its text be cut where it would not have been.

The *opening* of a segment is its separator with its heading, of the first one that is there the heading alone. Openings
and the template's tail stay; of the values the longest are cut, until the text fits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from ptec_udf.text.template import Template


def cuts_at_end(template: Template) -> bool:
    """Tell whether nothing of a template stands after its longest segment: all its texts are cut at their end."""
    return len(template.segments) == 1 and not template.tail


def select_tokens(text: str, starts: Sequence[int], template: Template, room: int) -> list[int]:
    """Choose the tokens of a text that stay.

    Args:
        text: as the template made it, or any other.
        starts: the character at which each token begins, *Shape:* ``(n_tokens,)``.
        template: of the text.
        room: so many tokens stay, fewer than there are.

    Returns:
        Their places in order, *Shape:* ``(room,)``. Where openings and tail alone are too many, what comes before the
        tail is cut at its end; where the tail is, the whole text.
    """
    starts = list(accumulate(starts, max))  # a normaliser may swap characters; segments are runs of tokens all the same
    has_tail = bool(template.tail) and text.endswith(template.tail)
    end = len(text) - len(template.tail) if has_tail else len(text)
    openings = find_openings(text, template, end)
    firsts = [0, *(bisect_left(starts, first) for first, _ in openings[1:])]
    tail = bisect_left(starts, end) if has_tail else len(starts)
    lasts = [*firsts[1:], tail]
    least = [bisect_left(starts, last) - first for (_, last), first in zip(openings, firsts, strict=True)]
    of_tail = range(tail, len(starts))
    if len(of_tail) > room:
        return [*range(room)]
    if sum(least) + len(of_tail) > room:
        return [*range(room - len(of_tail)), *of_tail]
    lengths = [last - first for first, last in zip(firsts, lasts, strict=True)]
    stay = share_budget(lengths, least, room - len(of_tail))
    return [at for first, n in zip(firsts, stay, strict=True) for at in range(first, first + n)] + [*of_tail]


def find_openings(text: str, template: Template, end: int) -> list[tuple[int, int]]:
    """Find the segments of a text, from left to right in the template's order; one that is not found is not there.

    Args:
        text: as the template made it, or any other.
        template: of the text.
        end: where its tail begins.

    Returns:
        First character of each opening and the one after its last. The first segment begins with the text; it has an
        empty opening where no heading stands there.
    """
    named = [segment for segment in template.segments if segment.heading]  # only the first one can have no heading
    at_start = next((at for at, segment in enumerate(named) if text.startswith(segment.heading, 0, end)), None)
    found = [(0, 0 if at_start is None else len(named[at_start].heading))]
    for segment in named if at_start is None else named[at_start + 1 :]:
        opening = segment.separator + segment.heading
        first = text.find(opening, found[-1][1], end)
        if first >= 0:
            found.append((first, first + len(opening)))
    return found


def share_budget(lengths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Take one token after another from the longest segment, of equally long ones from the last, until all fit.

    That is cutting what is over a common level down to it, and giving what is then left to the first that were cut.

    Args:
        lengths: tokens of each segment, *Shape:* ``(n_segments,)``.
        least: so many of them stay in any case, likewise.
        room: for tokens of all of them: at least the sum of ``least``, and less than that of ``lengths``.

    Returns:
        How many tokens of each stay, *Shape:* ``(n_segments,)``; their sum is the room.
    """

    def at_level(level: int) -> list[int]:
        return [max(few, min(length, level)) for length, few in zip(lengths, least, strict=True)]

    level = bisect_right(range(max(lengths)), room, key=lambda level: sum(at_level(level))) - 1
    stay, higher = at_level(level), at_level(level + 1)
    left = room - sum(stay)
    for at, more in enumerate(higher):
        if left and more > stay[at]:
            stay[at], left = more, left - 1
    return stay
