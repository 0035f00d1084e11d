"""Scoring in a Python worker process: models are loaded once, and share their backbones.

The module is imported and never pickled: a cache in the UDF's closure would travel by value and be empty in each task.
It relies on ``spark.python.worker.reuse``, and needs memory for ``MAX_MODELS`` backbones in each worker.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ptec_udf.config import EngineConfig
from ptec_udf.engine.device import task_device
from ptec_udf.engine.scorer import ScoredText, Scorer, TfidfScorer
from ptec_udf.model.artifact import Artifact, read_artifact

MAX_MODELS = 2  # that a worker keeps, such as the champion and a challenger


class WorkerModel(NamedTuple):
    """The parts of an artifact that a worker needs."""

    model_id: str
    files: Mapping[str, bytes]
    folder: Path | None = None

    @classmethod
    def of(cls, artifact: Artifact) -> WorkerModel:
        """Take the parts of an artifact."""
        return cls(artifact.model_id, artifact.scoring_files, artifact.folder)


_lock = threading.Lock()
_models: dict[tuple[Any, ...], Scorer | TfidfScorer] = {}


def score_batches(
    batches: Iterable[Iterable[str | None]], model: WorkerModel, settings: EngineConfig
) -> Iterator[list[ScoredText]]:
    """Score batches of texts, in order; an empty partition loads no model. ``settings`` are of ``engine_settings``.

    Batches are read ahead up to a window, so that texts of similar length can be scored together.
    """
    read_ahead = windows(batches, settings.window_rows)
    first = next(read_ahead, None)
    if first is not None:
        yield from scorer_for(model, settings).score_windows(chain([first], read_ahead))
    with suppress(OSError, AttributeError):  # glibc would keep freed memory for this process
        ctypes.CDLL(None).malloc_trim(0)


def windows(
    batches: Iterable[Iterable[str | None]], max_rows: int, max_bytes: int = 32_000_000
) -> Iterator[list[str | None]]:
    """Join batches into windows, in order, each closed at ``max_rows`` rows or ``max_bytes`` bytes of text."""
    window: list[str | None] = []
    n_bytes = 0
    for text in chain.from_iterable(batches):
        window.append(text)
        n_bytes += len(text.encode()) if text else 0
        if len(window) >= max_rows or n_bytes >= max_bytes:
            yield window
            window, n_bytes = [], 0
    if window:
        yield window


def scorer_for(model: WorkerModel, settings: EngineConfig) -> Scorer | TfidfScorer:
    """Return this process's scorer of a model on the running task's device; load it at most once."""
    with _lock:
        device = "cpu" if settings.kind == "openvino" else task_device(settings.device)
        key = (model.model_id, settings.kind, settings.dtype, settings.batch_tokens)
        if key not in _models:
            _models[key] = _load(model, settings, device)
        scorer = _models[key]
        if isinstance(scorer, Scorer):
            scorer.engine.prepare(device, settings.threads or 1)
        return scorer


def _load(model: WorkerModel, settings: EngineConfig, device: str) -> Scorer | TfidfScorer:
    """Load a model in place of the oldest one; models without LoRA share their backbone."""
    artifact = read_artifact(model.files)
    named = artifact.manifest.backbone
    options: dict[str, Any] = {"dtype": settings.dtype, "batch_tokens": settings.batch_tokens}
    if len(_models) >= MAX_MODELS:
        del _models[next(iter(_models))]
    if named is None:
        return TfidfScorer(artifact.build_tfidf_head())
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Spark's tasks are the parallelism
    if settings.kind == "openvino":
        from ptec_udf.engine import openvino_engine

        folder = openvino_engine.converted_folder(artifact, model.folder or Path())
        return openvino_engine.load_scorer(artifact, folder, **options)
    from ptec_udf.engine import torch_engine

    torch_engine.release_memory()  # of the oldest model
    load = torch_engine.load_backbone if artifact.manifest.lora else torch_engine.shared_backbone
    return torch_engine.load_scorer(artifact, device=device, backbone=load(named, settings.dtype), **options)
