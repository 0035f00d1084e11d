"""Loaded models of a Python worker process: each is loaded once, and models share their backbones.

The module is imported and never pickled: a cache in the UDF's closure would travel by value and be empty in each task.
It relies on ``spark.python.worker.reuse`` (an idle worker ends after a minute) and needs memory for
``MAX_BACKBONES`` backbones per worker in ``spark.executor.memoryOverhead``.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ptec_udf.engine.device import Device, Dtype, task_device
from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.tfidf_scorer import TfidfScorer
from ptec_udf.model.artifact import Artifact, read_artifact

if TYPE_CHECKING:
    from ptec_udf.engine.torch_engine import LoadedBackbone

MAX_BACKBONES = 2
"""Backbones of a worker, such as the champion's and a challenger's; they take most of its memory."""

MAX_MODELS = 8
"""Models of a worker, each with its own prompt and head."""


@dataclass(frozen=True)
class EngineSettings:
    """How a worker scores, resolved by the driver; for the fields see ``EngineConfig``."""

    dtype: Dtype
    batch_tokens: int | None
    window_rows: int
    window_bytes: int
    threads: int
    device: Device = "auto"


class BackboneKey(NamedTuple):
    """Identifies a loaded backbone; with LoRA, which changes the weights, it belongs to one model."""

    content_hash: str
    dtype: Dtype
    model_id: str | None


class _ModelKey(NamedTuple):
    model_id: str
    dtype: Dtype
    batch_tokens: int | None


class _Loaded(NamedTuple):
    scorer: Scorer | TfidfScorer
    key: BackboneKey | None
    backbone: LoadedBackbone | None


_lock = threading.Lock()
_models: dict[_ModelKey, _Loaded] = {}
_n_loads = 0


def scorer_for(model_id: str, files: Mapping[str, bytes], settings: EngineSettings) -> Scorer | TfidfScorer:
    """Return this process's scorer of a model on the running task's device; load it at most once.

    Args:
        model_id: of the artifact.
        files: the artifact's scoring files, from the broadcast.
        settings: dtype, device and batching; the size of windows is no part of the cache's key.

    Raises:
        ArtifactError: if the bytes are not the artifact's.
        BackboneError: if the backbone is missing here or has another content.
        PtecError: if the task's GPU is not there.
    """
    global _n_loads
    with _lock:
        key, device = _ModelKey(model_id, settings.dtype, settings.batch_tokens), task_device(settings.device)
        if key not in _models:
            _models[key] = _load(key, files, device)
            _n_loads += 1
        scorer = _models[key].scorer
        if isinstance(scorer, Scorer):
            scorer.engine.prepare(device, settings.threads)
        return scorer


def load_count() -> int:
    """Return the number of models that this process has loaded so far; tests read it."""
    return _n_loads


def trim_heap() -> None:
    """Return freed memory to the system; the C library would keep it for this process."""
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _load(key: _ModelKey, files: Mapping[str, bytes], device: str) -> _Loaded:
    """Load a model; its backbone may be loaded already."""
    artifact = read_artifact(files)
    backbone_key = _backbone_key(artifact, key.dtype)
    _evict_until_fits(backbone_key)
    if backbone_key is None:
        return _Loaded(TfidfScorer(artifact.build_tfidf_head()), None, None)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Spark's tasks are the parallelism
    import torch

    from ptec_udf.engine.torch_engine import load_backbone, load_scorer

    named, dtype = artifact.manifest.backbone, getattr(torch, key.dtype)
    assert named is not None
    backbone = next((loaded.backbone for loaded in _models.values() if loaded.key == backbone_key), None)
    backbone = backbone or load_backbone(named, dtype=dtype)
    scorer = load_scorer(artifact, dtype=dtype, batch_tokens=key.batch_tokens, device=device, backbone=backbone)
    return _Loaded(scorer, backbone_key, backbone)


def _backbone_key(artifact: Artifact, dtype: Dtype) -> BackboneKey | None:
    """Return the key of an artifact's backbone; None without one."""
    manifest = artifact.manifest
    if manifest.backbone is None:
        return None
    return BackboneKey(manifest.backbone.content_hash, dtype, artifact.model_id if manifest.lora else None)


def _evict_until_fits(key: BackboneKey | None) -> None:
    """Drop the oldest models until there is room for another on a backbone."""

    def is_full() -> bool:
        backbones = {loaded.key for loaded in _models.values()} | {key}
        return len(_models) >= MAX_MODELS or len(backbones - {None}) > MAX_BACKBONES

    evicted = False
    while is_full():
        del _models[next(iter(_models))]
        evicted = True
    if evicted:
        from ptec_udf.engine.torch_engine import release_gpu_memory

        release_gpu_memory()
