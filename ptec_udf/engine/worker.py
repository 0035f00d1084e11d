"""Loaded models of a Python worker process, each loaded once.

This is a module of its own, imported and never pickled: a cache defined inside the UDF's closure
would travel by value and be empty in every task. It relies on ``spark.python.worker.reuse=true``
(an idle worker ends after a minute, and its cache with it) and on ``spark.executor.memoryOverhead``
leaving room for the backbone's weights once per worker.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ptec_udf.engine.device import Dtype, task_device
from ptec_udf.engine.load import load_scorer
from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.terms_scorer import TermsScorer
from ptec_udf.model.artifact import read_artifact

_MOST_MODELS = 2  # champion and one challenger; each holds a backbone

_lock = threading.Lock()
_scorers: dict[tuple[str, EngineSettings, torch.device], Scorer | TermsScorer] = {}
_loads = 0


@dataclass(frozen=True)
class EngineSettings:
    """What an executor is told beside the model."""

    dtype: Dtype
    batch_tokens: int | None
    window_rows: int
    window_bytes: int
    threads: int


def scorer_for(model_id: str, files: Mapping[str, bytes], settings: EngineSettings) -> Scorer | TermsScorer:
    """Return this process's scorer of a model on the task's device, loading it at most once.

    Args:
        model_id: the artifact's content hash, the cache's key.
        files: the artifact's scoring files, from the broadcast.
        settings: arithmetic and batching.

    Raises:
        ArtifactError: when the bytes are not the artifact's.
        BackboneError: when the backbone is missing here or is another one.
        PtecError: when Spark gave the task a GPU that is not there.
    """
    global _loads
    with _lock:
        device = task_device()
        key = (model_id, settings, device)
        if key not in _scorers:
            while len(_scorers) >= _MOST_MODELS:
                _scorers.pop(next(iter(_scorers)))  # the oldest
            _scorers[key] = _load(files, settings, device)
            _loads += 1
        return _scorers[key]


def load_count() -> int:
    """Number of models that this process has loaded so far; tests read it."""
    return _loads


def _load(files: Mapping[str, bytes], settings: EngineSettings, device: torch.device) -> Scorer | TermsScorer:
    """Load a model for the first time in this process."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Spark's tasks are the parallelism
    torch.set_num_threads(settings.threads)
    dtype = getattr(torch, settings.dtype)
    return load_scorer(read_artifact(files), dtype=dtype, batch_tokens=settings.batch_tokens, device=device)
