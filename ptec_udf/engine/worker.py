"""Loaded models of a Python worker process, each loaded once, and the backbones that they share.

This is a module of its own, imported and never pickled: a cache defined inside the UDF's closure
would travel by value and be empty in every task. It relies on ``spark.python.worker.reuse=true``
(an idle worker ends after a minute, and its cache with it) and on ``spark.executor.memoryOverhead``
leaving room for the backbone's weights once per worker.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ptec_udf.engine.device import Dtype, task_device
from ptec_udf.model.artifact import read_artifact

if TYPE_CHECKING:  # half of a night's imports, of which its driver, where no text is scored, has no need
    from ptec_udf.engine.scorer import Scorer
    from ptec_udf.engine.tfidf_scorer import TfidfScorer
    from ptec_udf.engine.torch_engine import LoadedBackbone

MAX_BACKBONES = 2
"""That a worker holds at once, such as the champion's and that of a challenger; they are most of what models take."""

MAX_MODELS = 8
"""That a worker holds at once, each with a prompt and a head of its own."""


@dataclass(frozen=True)
class EngineSettings:
    """What an executor is told beside the model."""

    dtype: Dtype
    batch_tokens: int | None
    window_rows: int
    window_bytes: int
    threads: int


_Key = tuple[str, EngineSettings, torch.device]
_Place = tuple[str, Dtype, torch.device, _Key | None]


class _Held(NamedTuple):
    """A loaded model; those of equal ``place`` are on one backbone."""

    scorer: Scorer | TfidfScorer
    place: _Place | None
    backbone: LoadedBackbone | None


_lock = threading.Lock()
_scorers: dict[_Key, _Held] = {}
_loads = 0


def scorer_for(model_id: str, files: Mapping[str, bytes], settings: EngineSettings) -> Scorer | TfidfScorer:
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
        key = (model_id, settings, task_device())
        if key not in _scorers:
            _scorers[key] = _load(key, files)
            _loads += 1
        torch.set_num_threads(settings.threads)  # of the process, and another model's task may have set others
        return _scorers[key].scorer


def trim_heap() -> None:
    """Give the system what a task has freed, which the C library would keep for this process's next one."""
    with suppress(OSError, AttributeError):  # another library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def load_count() -> int:
    """Number of models that this process has loaded so far; tests read it."""
    return _loads


def _load(key: _Key, files: Mapping[str, bytes]) -> _Held:
    """Load a model for the first time in this process; its backbone may be there already."""
    from ptec_udf.engine.torch_engine import load_backbone, load_scorer

    _, settings, device = key
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Spark's tasks are the parallelism
    artifact, dtype = read_artifact(files), getattr(torch, settings.dtype)
    named = artifact.manifest.backbone
    if named is None:
        _make_room(None)
        return _Held(load_scorer(artifact), None, None)
    # LoRA changes a backbone's weights, so no other model can use it.
    place = (named.content_hash, settings.dtype, device, None if artifact.manifest.lora is None else key)
    _make_room(place)
    backbone = next((held.backbone for held in _scorers.values() if held.place == place), None)
    backbone = backbone or load_backbone(named, dtype=dtype, device=device)
    options: dict[str, Any] = {"dtype": dtype, "batch_tokens": settings.batch_tokens, "device": device}
    return _Held(load_scorer(artifact, backbone=backbone, **options), place, backbone)


def _make_room(place: _Place | None) -> None:
    """Let go of the oldest models until there is room for another on a backbone; None: on none."""

    def is_full() -> bool:
        places = {held.place for held in _scorers.values()} | {place}
        return len(_scorers) >= MAX_MODELS or len(places - {None}) > MAX_BACKBONES

    while is_full():
        del _scorers[next(iter(_scorers))]
