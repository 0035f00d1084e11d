"""Nearest neighbour by compression: texts are alike that compress well together.

Source: Jiang et al., "'Low-resource' text classification: a parameter-free classification method with
compressors", Findings of ACL 2023; here one neighbour, whose labels are copied, as in arXiv 2309.12075.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptec_udf.log import progress
from training.methods.method import Learned, Method, Task

_TEXTS_AT_ONCE = 16


class Compression(Method):
    """One neighbour by the normalised distance of compressed lengths."""

    method: Literal["gzip"] = "gzip"

    def learn(self, task: Task) -> Learned:
        """Keep all rows; there is nothing to decide."""
        known = [text.encode() for text in task.whole.texts]
        lengths = np.array([_length(text) for text in known])
        targets = task.whole.targets

        def score(texts: Sequence[str]) -> NDArray[np.floating]:
            nearest = []
            with progress("compressing", len(texts)) as step_done:
                for start in range(0, len(texts), _TEXTS_AT_ONCE):
                    part = texts[start : start + _TEXTS_AT_ONCE]
                    nearest += [_nearest(text.encode(), known, lengths) for text in part]
                    step_done(len(part))
            return targets[nearest]

        return Learned(score, decisions=None)


def _nearest(text: bytes, known: list[bytes], lengths: NDArray[np.integer]) -> int:
    """The known text at the least distance."""
    alone = _length(text)
    together = np.array([_length(text + b" " + other) for other in known])
    return int(np.argmin((together - np.minimum(alone, lengths)) / np.maximum(alone, lengths)))


def _length(text: bytes) -> int:
    # The body of a gzip file without its constant head and tail.
    return len(zlib.compress(text, 9, -zlib.MAX_WBITS))
