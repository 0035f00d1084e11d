"""The reference engine: transformers with SDPA, on a CPU or GPU."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptec_udf.engine.batching import pad_batch
from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.scorer import BATCH_TOKENS, Scorer
from ptec_udf.engine.tfidf_scorer import TfidfScorer
from ptec_udf.errors import PtecError
from ptec_udf.model.artifact import Artifact, Member
from ptec_udf.model.backbone import resolve
from ptec_udf.model.ensemble import MeanNetwork, build_ensemble
from ptec_udf.model.heads import Head, LabelAttention
from ptec_udf.model.lora import check_unmerged, merge_lora
from ptec_udf.model.manifest import BackboneRef, Manifest
from ptec_udf.model.network import PtecNetwork

SHARED_GPU_BATCH_TOKENS = 2048
"""Positions of a batch on a GPU whose free memory is unknown, as several tasks share it."""

_MAX_GPU_BATCH_TOKENS = 131_072
_SHARE_OF_FREE_MEMORY = 0.5  # batches of other lengths need other amounts

LoadedBackbone = tuple[Any, Any]
"""A backbone's module and its tokenizer."""


class TorchEngine:
    """Runs a PTEC network in eval mode with a frozen prompt."""

    def __init__(self, network: PtecNetwork | MeanNetwork) -> None:
        self.network: PtecNetwork | MeanNetwork = network.eval()
        self.network.freeze_prompt()

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.device

    @property
    def on_gpu(self) -> bool:
        """Whether the network is on a GPU."""
        return self.device.type == "cuda"

    def prepare(self, device: str, threads: int) -> None:
        """Move the network and its backbone to the task's device: workers are reused by tasks of other GPUs."""
        torch.set_num_threads(threads)
        if any(weight.device != torch.device(device) for weight in self.network.parameters()):
            self.network.to(device)
            self.network.freeze_prompt()
            release_gpu_memory()

    @torch.inference_mode()
    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits, *Shape:* ``(batch, n_labels)``; for the arguments see ``Engine``.

        Raises:
            torch.OutOfMemoryError: if the batch does not fit; the caller may retry with fewer rows.
            PtecError: if the GPU cannot be used any more.
        """
        tensors = torch.from_numpy(ids), torch.from_numpy(mask)
        try:
            return self._run(*tensors)
        except torch.OutOfMemoryError:
            if len(ids) > 1:
                raise
        release_gpu_memory()
        return self._run(*tensors)  # other tasks may have released memory

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> NDArray[np.float32]:
        try:
            return self.network(ids.to(self.device), mask.to(self.device)).cpu().numpy()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            check_gpu(self.device)
            raise


def load_scorer(
    artifact: Artifact,
    *,
    dtype: torch.dtype = torch.float32,
    batch_tokens: int | None = None,
    device: str | torch.device = "cpu",
    backbone: LoadedBackbone | None = None,
) -> Scorer | TfidfScorer:
    """Load a model for scoring.

    Args:
        artifact: of any kind.
        dtype: of the backbone.
        batch_tokens: maximum positions of a batch, padding included; None: ``BATCH_TOKENS``, on a GPU what fits.
        device: where the backbone computes.
        backbone: a loaded one to share, in this dtype; with LoRA, used by this model alone. None: load it.

    Raises:
        ArtifactError: for LoRA on layers that the backbone does not have.
        BackboneError: if the backbone is missing here or has another content.
    """
    manifest = artifact.manifest
    if manifest.backbone is None:
        return TfidfScorer(artifact.build_tfidf_head())
    model, tokenizer = backbone or load_backbone(manifest.backbone, dtype=dtype)
    model.to(device)
    engine, encoder = TorchEngine(build_network(artifact, model)), Encoder.from_manifest(manifest, tokenizer)
    if batch_tokens is None and torch.device(device).type == "cuda":
        batch_tokens = measure_batch_tokens(engine.network, encoder.max_tokens)
    tfidf = artifact.build_tfidf_head() if manifest.tfidf else None
    return Scorer(engine, encoder, batch_tokens=batch_tokens or BATCH_TOKENS, tfidf=tfidf)


def load_backbone(named: BackboneRef, *, dtype: torch.dtype) -> LoadedBackbone:
    """Resolve, check and load a backbone that a manifest names.

    Raises:
        BackboneError: if it is missing here or has another content.
    """
    backbone = resolve(named.name)
    backbone.check(named.content_hash)
    return backbone.load(dtype)


def build_network(artifact: Artifact, backbone: Any) -> PtecNetwork | MeanNetwork:
    """Put an artifact's prompt and head on its backbone; LoRA changes the backbone's own weights.

    Raises:
        ArtifactError: for LoRA on layers that the backbone does not have.
        ValueError: for a backbone with another model's LoRA in its weights.
    """
    manifest = artifact.manifest
    check_unmerged(backbone)
    if manifest.lora is not None:
        merge_lora(backbone, artifact.adapter, manifest.lora.alpha / manifest.lora.rank)
    networks = [_build_member(member, manifest, backbone) for member in artifact.members]
    return build_ensemble(networks).to(backbone.device)


def _build_member(member: Member, manifest: Manifest, backbone: Any) -> PtecNetwork:
    assert manifest.pooling is not None
    n_labels, width = member.weight.shape
    head = Head(width, n_labels)
    head.load_state_dict({"weight": torch.from_numpy(member.weight), "bias": torch.from_numpy(member.bias)})
    return PtecNetwork(
        backbone=backbone,
        kind=manifest.prompt.kind if manifest.prompt else None,
        prompt=None if member.prompt is None else torch.from_numpy(member.prompt),
        head=head,
        pooling=manifest.pooling,
        attention=None if member.queries is None else LabelAttention(torch.from_numpy(member.queries)),
    )


@torch.inference_mode()
def measure_batch_tokens(network: PtecNetwork | MeanNetwork, max_tokens: int) -> int:
    """Measure the GPU memory of a forward pass; return how many positions fit in the free memory."""
    device = network.device
    ids = torch.full((max(1, SHARED_GPU_BATCH_TOKENS // max_tokens), max_tokens), 5, device=device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        network(ids, torch.ones_like(ids))
    except torch.OutOfMemoryError:
        return SHARED_GPU_BATCH_TOKENS
    needed = torch.cuda.max_memory_allocated(device) - before
    free, _ = torch.cuda.mem_get_info(device)
    return fit_batch_tokens(free, needed / ids.numel())


def fit_batch_tokens(free_bytes: int, bytes_per_position: float) -> int:
    """Return the number of positions that take half of the free memory."""
    return max(1, min(int(free_bytes * _SHARE_OF_FREE_MEMORY / bytes_per_position), _MAX_GPU_BATCH_TOKENS))


def release_gpu_memory() -> None:
    """Return unused GPU memory to the other processes of the GPU."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def check_gpu(device: torch.device) -> None:
    """Tell a GPU that this process cannot use any more from a text that fails.

    Raises:
        PtecError: for such a GPU; it ends the worker, and Spark retries the task in a new one.
    """
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        raise PtecError(f"{device} cannot be used any more in this process: {type(error).__name__}") from error


def pad(ids: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``pad_batch`` as tensors."""
    padded, mask = pad_batch(ids, pad_id)
    return torch.from_numpy(padded), torch.from_numpy(mask)
