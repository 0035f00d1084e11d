"""Nearest neighbour by compression: texts are alike that compress well together.

Source: Jiang et al., "'Low-resource' text classification: a parameter-free classification method with compressors",
Findings of ACL 2023; one neighbour, whose labels are copied, as in arXiv 2309.12075.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptec_udf.log import progress
from training.methods.method import Learned, Method, Task


class Compression(Method):
    """One neighbour by the normalised distance of compressed lengths; it decides without scores."""

    method: Literal["gzip"] = "gzip"

    def learn(self, task: Task) -> Learned:
        """Keep all rows."""
        known, targets = [text.encode() for text in task.whole.texts], task.whole.targets
        lengths = np.array([_length(text) for text in known])

        def score(texts: Sequence[str]) -> NDArray[np.floating]:
            nearest = []
            with progress("compressing", len(texts)) as step_done:
                for text in texts:
                    nearest.append(_nearest(text.encode(), known, lengths))
                    step_done(1)
            return targets[nearest]

        return Learned(score, decisions=None)


def _nearest(text: bytes, known: list[bytes], lengths: NDArray[np.integer]) -> int:
    alone = _length(text)
    together = np.array([_length(text + b" " + other) for other in known])
    return int(np.argmin((together - np.minimum(alone, lengths)) / np.maximum(alone, lengths)))


def _length(text: bytes) -> int:
    return len(zlib.compress(text, 9, -zlib.MAX_WBITS))  # a gzip file without its constant head and tail
