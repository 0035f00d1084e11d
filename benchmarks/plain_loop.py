"""The loop that one writes first: a process for each core, a part of the texts for each, no Spark and no table.

A measurement of ``benchmarks.overhead``, in a process of its own, so that what starts here has no more to import than
scoring needs.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks.common import load, read_texts, score, use_threads
from ptec_udf.model.artifact import load_artifact

_LONGEST_LOAD_S = 600.0

_all_loaded: Barrier


@dataclass(frozen=True)
class Loop:
    """What is to be scored.

    Attributes:
        artifact: folder of a model.
        texts: Parquet file with the column text.
        processes: each has one thread, and scores as many texts.
        dtype: arithmetic of the backbone.
        batch_tokens: most positions of a batch.
    """

    artifact: str
    texts: str
    processes: int
    dtype: str
    batch_tokens: int

    def run(self) -> dict[str, Any]:
        """Run the loop in a process of its own.

        Returns:
            seconds with the start of the processes and the loading of models, seconds from the first row to the last,
            number of scored texts and of their tokens.
        """
        command = [sys.executable, "-m", "benchmarks.plain_loop", json.dumps(asdict(self))]
        found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        return found


def main(loop: Loop) -> dict[str, Any]:
    """Run the loop from here."""
    context = multiprocessing.get_context("spawn")
    started = time.monotonic()
    barrier = context.Barrier(loop.processes)
    with ProcessPoolExecutor(loop.processes, context, _begin, (barrier,)) as pool:
        parts = list(pool.map(_score_part, [loop] * loop.processes, range(loop.processes)))
    first, last = min(part["first"] for part in parts), max(part["last"] for part in parts)
    counts = {name: sum(part[name] for part in parts) for name in ("scored", "tokens")}
    return {"seconds": last - started, "seconds_scoring": last - first, **counts}


def _begin(barrier: Barrier) -> None:
    """Take what the processes wait at."""
    global _all_loaded
    _all_loaded = barrier


def _score_part(loop: Loop, at: int) -> dict[str, Any]:
    """Load the model and, when all have, score every so-manieth text."""
    use_threads(1)
    texts = read_texts(Path(loop.texts), "text")[at :: loop.processes]
    scorer = load(load_artifact(loop.artifact), loop.dtype, loop.batch_tokens)
    _all_loaded.wait(_LONGEST_LOAD_S)
    first = time.monotonic()  # one clock for all processes of a machine
    scored = score(scorer, texts)
    n_scored = sum(one.logits is not None for one in scored)
    return {
        "first": first,
        "last": time.monotonic(),
        "scored": n_scored,
        "tokens": sum(one.n_tokens for one in scored),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Loop(**json.loads(sys.argv[1])))))
