"""Texts to logits in plain Python, for the UDF, tests and interactive calls; imports neither Spark nor torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ptec_udf.engine.batching import length_sorted_batches, pad_batch
from ptec_udf.engine.encoder import EncodedText, Encoder
from ptec_udf.engine.result import TEXT_ERRORS, ScoredText, make_result, mark_failed
from ptec_udf.model.tfidf import TfidfHead

BATCH_TOKENS = 1024
"""Positions of a batch on a CPU: more is no faster, and slower if several tasks share the caches."""

_Scored = tuple[Sequence[str | None], list[ScoredText]]

_MAX_CHARACTERS_AT_ONCE = 2**20  # tokenised together; tokens take far more memory than characters


class Engine(Protocol):
    """Runs the network; each kind of engine has a module of its own."""

    @property
    def on_gpu(self) -> bool:
        """Whether the network is on a GPU."""
        ...

    def prepare(self, device: str, threads: int) -> None:
        """Move to a task's device and use this number of CPU threads: tasks of other models may have changed both."""
        ...

    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits, *Shape:* ``(batch, n_labels)``, of right-padded ids and mask, *Shape:* ``(batch, length)``."""
        ...


@dataclass
class _Window:
    """Texts that are scored together, with their results and the token ids of the texts that are not blank."""

    texts: Sequence[str | None]
    results: list[ScoredText]
    encoded: dict[int, EncodedText] = field(default_factory=dict)


class Scorer:
    """A loaded model that scores any number of texts in any order.

    A text that makes a batch fail is found by bisection and gets status ``error``; the other texts are scored as if it
    were absent.

    Attributes:
        engine: runs the network.
        encoder: tokenises and cuts.
        batch_tokens: maximum positions of a batch, padding included.
        tfidf: its logits are added to the network's.
    """

    def __init__(
        self, engine: Engine, encoder: Encoder, *, batch_tokens: int = BATCH_TOKENS, tfidf: TfidfHead | None = None
    ) -> None:
        self.engine = engine
        self.encoder = encoder
        self.batch_tokens = batch_tokens
        self.tfidf = tfidf

    def score(self, texts: Sequence[str | None]) -> list[ScoredText]:
        """Score texts, in their order; None and blank texts are ``empty``."""
        return self._run(self._encode(texts))

    def score_ahead(self, windows: Iterable[Sequence[str | None]]) -> Iterator[_Scored]:
        """Yield each window with its results; a thread tokenises the next one while a GPU computes."""
        with ThreadPoolExecutor(1) as pool:
            pending = None
            for texts in windows:
                following = pool.submit(self._encode, texts)
                if pending is not None:
                    yield pending[0], self._run(pending[1].result())
                pending = texts, following
            if pending is not None:
                yield pending[0], self._run(pending[1].result())

    def _encode(self, texts: Sequence[str | None]) -> _Window:
        """Tokenise the texts that are not blank."""
        window = _Window(texts, [ScoredText() for _ in texts])

        def encode(rows: list[int]) -> None:
            encoded = self.encoder.encode([texts[row] or "" for row in rows])
            window.encoded.update(zip(rows, encoded, strict=True))

        for rows in _split_by_characters(texts):
            _bisect(rows, encode, window.results)
        return window

    def _run(self, window: _Window) -> list[ScoredText]:
        """Run the network over length-sorted batches; texts without any token stay ``empty``."""
        rows = [row for row, text in window.encoded.items() if text.ids]
        lengths = [len(window.encoded[row].ids) for row in rows]
        for batch in length_sorted_batches(lengths, self.batch_tokens):
            _bisect([rows[at] for at in batch], lambda part: self._forward(part, window), window.results)
        return window.results

    def _forward(self, rows: list[int], window: _Window) -> None:
        """Score one batch and write its results."""
        ids, mask = pad_batch([window.encoded[row].ids for row in rows])
        for row, logits in zip(rows, self.engine.logits(ids, mask), strict=True):
            text, encoded = window.texts[row] or "", window.encoded[row]
            if self.tfidf is not None:
                logits = logits + self.tfidf.logits(text)
            window.results[row] = make_result(
                text,
                logits,
                n_tokens=len(encoded.ids),
                n_truncated=encoded.n_truncated,
                batch_positions=ids.shape[1],
            )


def _split_by_characters(texts: Sequence[str | None]) -> Iterator[list[int]]:
    """Group the rows of texts that are not blank, under a budget of characters or alone."""
    rows: list[int] = []
    n_characters = 0
    for row, text in enumerate(texts):
        if not text or text.isspace():
            continue
        if rows and n_characters + len(text) > _MAX_CHARACTERS_AT_ONCE:
            yield rows
            rows, n_characters = [], 0
        rows.append(row)
        n_characters += len(text)
    if rows:
        yield rows


def _bisect(rows: list[int], run: Callable[[list[int]], None], results: list[ScoredText]) -> None:
    """Run over rows; if that fails, over each half, down to single rows, whose results are marked as failed."""
    try:
        run(rows)
        return
    except TEXT_ERRORS as error:
        if len(rows) == 1:
            mark_failed(results[rows[0]], error)
            return
    # Outside the handler: the exception keeps alive what the failed pass had in memory.
    middle = len(rows) // 2
    _bisect(rows[:middle], run, results)
    _bisect(rows[middle:], run, results)
