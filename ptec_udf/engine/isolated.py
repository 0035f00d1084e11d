"""Scoring in a process of its own, where a text that kills the process that scores it costs itself alone its score.

Spark does not say which row a worker died of, and tries it again until the job fails. Texts of a slice that failed so
are scored here: whoever sends texts to a process and sees it die knows which ones it had.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from ptec_udf.engine.device import task_device
from ptec_udf.engine.result import ERROR, ScoredText
from ptec_udf.engine.worker import EngineSettings, keep_only, scorer_for
from ptec_udf.errors import PtecError

KILLED = "the process that scored this text alone died, each time"
"""What is told of a text that kills its process."""

_TEXTS_AT_ONCE = 64  # each death costs the next process a load, and scoring what the dead one had
_TRIES_ALONE = 2  # a process may have died of something else, of memory that its neighbours took for instance
_MOST_GIVEN_UP = 32  # in a row: then it is not the texts
_WAITS_TO_LOAD_S = (5, 20, 60)  # for memory that the processes of other tasks take, until they have ended
_READY = "ready"


class IsolatedScorer:
    """A loaded model in a process of its own, which is started anew when it dies."""

    def __init__(self, model_id: str, files: Mapping[str, bytes], settings: EngineSettings) -> None:
        """Take what ``worker.scorer_for`` takes; nothing is started yet."""
        self._model = (model_id, dict(files), settings)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._given_up = 0

    def score(self, texts: Sequence[str | None]) -> list[ScoredText]:
        """Score texts; the result has the order of the input.

        A text whose process dies when it is scored alone gets status ``error``.

        Raises:
            PtecError: when the process dies before it has any text, again and again, or of every text.
        """
        results: list[ScoredText] = []
        for at in range(0, len(texts), _TEXTS_AT_ONCE):
            results += self._halving(texts[at : at + _TEXTS_AT_ONCE])
        return results

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _halving(self, texts: Sequence[str | None]) -> list[ScoredText]:
        """Score texts at once; where their process dies, each half of them, down to one that is given up."""
        for _ in range(_TRIES_ALONE if len(texts) == 1 else 1):
            results = self._sent(texts)
            if results is not None:
                self._given_up = 0
                return results
        if len(texts) == 1:
            self._given_up += 1
            if self._given_up >= _MOST_GIVEN_UP:
                raise PtecError(f"{self._given_up} texts in a row killed the process that scored them")
            return [ScoredText(ERROR, error=KILLED)]
        middle = len(texts) // 2
        return self._halving(texts[:middle]) + self._halving(texts[middle:])

    def _sent(self, texts: Sequence[str | None]) -> list[ScoredText] | None:
        """Let the process score texts; None if it died."""
        pipe = self._pipe or self._loaded()
        try:
            pipe.send(list(texts))
            results: list[ScoredText] = pipe.recv()
        except (EOFError, OSError):
            self.close()
            return None
        return results

    def _loaded(self) -> Connection:
        """Start the process, some time later again where it dies before it has loaded the model."""
        for wait in (*_WAITS_TO_LOAD_S, None):
            if (pipe := self._start()) is not None:
                return pipe
            if wait is not None:
                time.sleep(wait)
        raise PtecError("a process of its own died before it had loaded the model, each time; give workers more memory")

    def _start(self) -> Connection | None:
        """Start the process and wait until the model is loaded; None if it died.

        Raises:
            PtecError: for a model that cannot be loaded.
        """
        # Not forked: a lock that another thread of this process holds would stay locked for ever.
        context = multiprocessing.get_context("spawn")
        pipe, its_end = context.Pipe()
        process = context.Process(target=_serve, args=(its_end, *self._model), daemon=True)
        try:
            process.start()
            self._pipe, self._process = pipe, process
            its_end.close()  # or the death of the process would not close the pipe
            said = pipe.recv()
        except (EOFError, OSError):  # it may have died before it had read the model
            self.close()
            return None
        if said == _READY:
            return pipe
        self.close()
        raise PtecError(said)


@contextmanager
def isolated(model_id: str, files: Mapping[str, bytes], settings: EngineSettings) -> Iterator[IsolatedScorer]:
    """Score in a process of its own, in place of this one, whose models are let go; for arguments see there.

    Raises:
        PtecError: in a task with a GPU, which Spark gives to the worker and to no process beside it.
    """
    if task_device().type != "cpu":
        raise PtecError("workers with a GPU died; the text that they die of cannot be looked for there")
    keep_only(None)
    scorer = IsolatedScorer(model_id, files, settings)
    try:
        yield scorer
    finally:
        scorer.close()


def _serve(pipe: Connection, model_id: str, files: Mapping[str, bytes], settings: EngineSettings) -> None:
    """Score what comes through the pipe until its other end is closed."""
    with suppress(OSError):  # on Linux, where memory runs out, this process is to be killed and no other
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        scorer = scorer_for(model_id, files, settings)
    except PtecError as error:
        pipe.send(str(error))
        return
    pipe.send(_READY)
    with suppress(EOFError, OSError):
        while True:
            pipe.send(scorer.score(pipe.recv()))
