"""A long text loses tokens at the end of its longest segments; headings, tail and short segments are kept."""

from __future__ import annotations

import random

import pytest

from ptec_udf.text.cut import find_spans, limit_characters, select_tokens
from ptec_udf.text.template import parse_template

TAIL = " the best team"
COMPANY = parse_template("name: {name}. is: {about}. from: {tags} {more}" + TAIL)
NAMES = ("name: ", ". is: ", ". from: ")


def draw_texts(n, seed=0):
    """Texts of the template, of one character per token; values of very different lengths, some segments missing."""
    draw = random.Random(seed)
    for _ in range(n):
        names = [name for name in NAMES if draw.random() < 0.8] or [NAMES[0]]
        values = ["x" * draw.choice((1, 2, 5, 12, 40)) for _ in names]
        yield "".join(map("".join, zip(names, values, strict=True))).removeprefix(". ") + TAIL


def cut_slowly(text, room):
    """Remove one character at a time from the longest segment, the last of equally long ones."""
    spans = find_spans(text, COMPANY)
    parts = [text[span.start : span.end] for span in spans]
    minimums = [span.opening_end - span.start for span in spans]
    while sum(map(len, parts)) + len(TAIL) > room:
        lengths = [len(part) if len(part) > minimum else -1 for part, minimum in zip(parts, minimums, strict=True)]
        longest = max(range(len(parts)), key=lambda at: (lengths[at], at))
        parts[longest] = parts[longest][:-1]
    return "".join(parts) + TAIL


class TestSpans:
    @pytest.mark.parametrize(
        ("text", "openings"),
        [
            ("Acme. Keywords: a, b. About: c{end}", ["", ". Keywords: ", ". About: "]),
            ("Acme. About: c{end}", ["", ". About: "]),
            ("Keywords: a. About: c{end}", ["Keywords: ", ". About: "]),
            ("About: c. Keywords: a. About: d{end}", ["About: "]),  # segments come in the template's order
            ("Acme. About: c. Keywords: d{end}", ["", ". Keywords: "]),  # a heading in a value is taken for one
            ("something else{end}", [""]),
        ],
    )
    def test_are_found_by_their_openings(self, text, openings):
        template = parse_template("{name}. Keywords: {tags}. About: {about}{{end}}")
        spans = find_spans(text, template)
        assert [text[span.start : span.opening_end] for span in spans] == openings
        assert "".join(text[span.start : span.end] for span in spans) + "{end}" == text


class TestSelectTokens:
    def test_takes_from_the_longest_segments(self):
        n_compared = 0
        for text in draw_texts(150):
            if len(text) > 60:
                kept = select_tokens(text, range(len(text)), COMPANY, 60)
                assert "".join(text[at] for at in kept) == cut_slowly(text, 60)
                n_compared += 1
        assert n_compared > 50

    @pytest.mark.parametrize(
        ("room", "expected"),
        [(2, "na"), (14, TAIL), (16, f"na{TAIL}"), (21, f"name: s{TAIL}"), (26, f"name: . is: {TAIL}")],
    )
    def test_keeps_the_tail_before_headings(self, room, expected):
        text = f"name: solar. is: wind{TAIL}"
        assert "".join(text[at] for at in select_tokens(text, range(len(text)), COMPANY, room)) == expected


class TestLimitCharacters:
    def test_cuts_as_tokens_are_cut(self):
        for text in draw_texts(150, seed=1):
            assert limit_characters(text, COMPANY, 60) == (cut_slowly(text, 60) if len(text) > 60 else text)

    def test_cuts_at_the_end_without_template_or_room(self):
        assert limit_characters("solar wind", None, 6) == "solar "
        assert limit_characters(f"name: solar. is: wind{TAIL}", COMPANY, 12) == "name: solar."
