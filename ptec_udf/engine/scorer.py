"""Texts to logits in plain Python, for the UDF, tests and interactive calls; imports neither Spark nor torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ptec_udf.engine.encoder import EncodedText, Encoder, length_sorted_batches, pad_batch
from ptec_udf.model.tfidf import TfidfHead
from ptec_udf.text.template import is_cut

BATCH_TOKENS = 1024
"""Positions of a batch on a CPU: more is no faster, and slower if several tasks share the caches."""

OK, TRUNCATED, EMPTY, ERROR = "ok", "truncated", "empty", "error"

WORKER_DIED = "the worker process died while scoring this text alone"
"""``error`` of a text that ends the process that scores it."""

TEXT_ERRORS = (ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""Exceptions that one text may cause; any other one ends the task."""


@dataclass
class ScoredText:
    """The result of one text.

    ``n_truncated`` is an estimate for very long texts (see ``encoder.py``), ``logits`` have *Shape:* ``(n_labels,)``,
    ``batch_positions`` count the row's positions in its batch, padding included.
    """

    status: str = EMPTY
    n_tokens: int = 0
    n_truncated: int = 0
    error: str | None = None
    logits: NDArray[np.float32] | None = field(default=None, repr=False)
    batch_positions: int = 0

    def set_logits(self, text: str, logits: NDArray[np.float32]) -> None:
        """Set logits and status of a text whose tokens are counted."""
        if not np.isfinite(logits).all():
            self.status, self.error = ERROR, "logits are not finite"
            return
        self.logits = logits
        self.status = TRUNCATED if self.n_truncated or is_cut(text) else OK

    def set_failed(self, error: Exception) -> None:
        """Set status ``error``; the exception's message is left out, since it may contain the text."""
        self.status, self.error = ERROR, f"scoring this text alone raised {type(error).__name__}"


class Engine(Protocol):
    """Runs the network; each kind of engine has a module of its own."""

    def prepare(self, device: str, threads: int) -> None:
        """Move to a task's device and use this number of CPU threads: tasks of other models may have changed both."""

    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits, *Shape:* ``(batch, n_labels)``, of right-padded ids and mask, *Shape:* ``(batch, length)``."""


@dataclass
class _Window:
    """Texts that are scored together, with their results and the token ids of the texts that have tokens."""

    texts: Sequence[str | None]
    results: list[ScoredText]
    encoded: dict[int, EncodedText] = field(default_factory=dict)


class Scorer:
    """A loaded model that scores any number of texts in any order.

    A text that makes a batch fail is found by bisection and gets status ``error``; the other texts are scored as if it
    were absent. ``batch_tokens`` are positions of a batch, padding included. Logits of ``tfidf`` are added.
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

    def score_windows(self, windows: Iterable[Sequence[str | None]]) -> Iterator[list[ScoredText]]:
        """Yield the results of each window; a thread tokenises the next one meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            encoded = None
            for texts in windows:
                following = pool.submit(self._encode, texts)
                if encoded is not None:
                    yield self._run(encoded.result())
                encoded = following
            if encoded is not None:
                yield self._run(encoded.result())

    def _encode(self, texts: Sequence[str | None]) -> _Window:
        window = _Window(texts, [ScoredText() for _ in texts])

        def encode(rows: list[int]) -> None:
            found = zip(rows, self.encoder.encode([texts[row] or "" for row in rows]), strict=True)
            window.encoded.update((row, encoded) for row, encoded in found if encoded.ids)

        rows = [row for row, text in enumerate(texts) if text and not text.isspace()]
        for start in range(0, len(rows), self.encoder.max_texts):
            _bisect(rows[start : start + self.encoder.max_texts], encode, window.results)
        return window

    def _run(self, window: _Window) -> list[ScoredText]:
        """Run the network over length-sorted batches; texts without any token stay ``empty``."""
        rows = list(window.encoded)
        lengths = [len(encoded.ids) for encoded in window.encoded.values()]
        for batch in length_sorted_batches(lengths, self.batch_tokens):
            _bisect([rows[at] for at in batch], lambda part: self._forward(part, window), window.results)
        return window.results

    def _forward(self, rows: list[int], window: _Window) -> None:
        ids, mask = pad_batch([window.encoded[row].ids for row in rows])
        for row, logits in zip(rows, self.engine.logits(ids, mask), strict=True):
            text, encoded = window.texts[row] or "", window.encoded[row]
            if self.tfidf is not None:
                logits = logits + self.tfidf.logits(text)
            result = ScoredText(
                n_tokens=len(encoded.ids), n_truncated=encoded.n_truncated, batch_positions=ids.shape[1]
            )
            result.set_logits(text, logits)
            window.results[row] = result


class TfidfScorer:
    """Scores texts without a language model, each by itself: TF-IDF and one linear layer.

    ``n_tokens`` counts words between white space. Nothing is cut. A text without a known term gets the logits of no
    term at all.
    """

    def __init__(self, head: TfidfHead) -> None:
        self.head = head

    def score(self, texts: Sequence[str | None]) -> list[ScoredText]:
        """Score texts, in their order; None and blank texts are ``empty``."""
        results = [ScoredText() for _ in texts]
        for text, result in zip(texts, results, strict=True):
            if text and not text.isspace():
                try:
                    result.n_tokens = result.batch_positions = len(text.split())
                    result.set_logits(text, self.head.logits(text))
                except TEXT_ERRORS as error:
                    result.set_failed(error)
        return results

    def score_windows(self, windows: Iterable[Sequence[str | None]]) -> Iterator[list[ScoredText]]:
        """Yield the results of each window."""
        return map(self.score, windows)


def _bisect(rows: list[int], run: Callable[[list[int]], None], results: list[ScoredText]) -> None:
    """Run over rows; if that fails, over each half, down to single rows, whose results are marked as failed."""
    try:
        run(rows)
        return
    except TEXT_ERRORS as error:
        if len(rows) == 1:
            results[rows[0]].set_failed(error)
            return
    # Outside the handler: the exception keeps alive what the failed pass had in memory.
    middle = len(rows) // 2
    _bisect(rows[:middle], run, results)
    _bisect(rows[middle:], run, results)
