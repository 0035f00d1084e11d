"""Rows that a careless job dies of, in any number."""

from __future__ import annotations

import random

_PIECES = (
    "solar power for the grid",
    "\u0000\u0001\u0007\x1b[31m\r\n",
    "日本語 العربية עברית हिन्दी ไทย 한국어 𝔘𝔫𝔦 😀👩‍👩‍👧 e\u0301",
    "\u202eright to left\u202c \u200b\u200d\ufeff",
    "Robert'); DROP TABLE scores;--",
    "<script>alert(1)</script> &lt;b&gt; {name} {{x}} %s $1 \\1",
    '"""\'`\\',
    "[CLS] [SEP] [PAD] </s> <|endoftext|> <0xFF>",
    "a" * 3_000,
    "Z\u0351\u036b\u0343\u036a\u0302" * 60,
    " \t\u00a0\u2003",
    "",
)


def hostile_rows(n: int, seed: int = 0) -> list[tuple[str, str | None, str | None]]:
    """Make up ``n`` rows of key, name and about; keys are all different and as hostile as the rest."""
    draw = random.Random(seed)

    def text() -> str | None:
        if draw.random() < 0.05:
            return None
        return " ".join(draw.choices(_PIECES, k=draw.randint(0, 4))) * (40 if draw.random() < 0.01 else 1)

    return [(f"{draw.choice(_PIECES)[:20]}|{at}", text(), text()) for at in range(n)]
