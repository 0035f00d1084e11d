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
from ptec_udf.engine.scorer import BATCH_TOKENS, Scorer, TfidfScorer
from ptec_udf.errors import PtecError
from ptec_udf.model.artifact import Artifact, Member
from ptec_udf.model.backbone import resolve
from ptec_udf.model.lora import merge_lora
from ptec_udf.model.manifest import BackboneRef, Manifest
from ptec_udf.model.network import Head, LabelAttention, PtecNetwork

GPU_BATCH_TOKENS = 16_384
"""Positions of a batch on a GPU; a batch that does not fit in memory is halved."""

LoadedBackbone = tuple[Any, Any]
"""A backbone's module and its tokenizer."""


class TorchEngine:
    """Runs PTEC networks on one backbone in eval mode with frozen prompts; logits are the mean of theirs.

    Source of the mean: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles", NeurIPS 2017 (arXiv 1612.01474).
    """

    def __init__(self, networks: Sequence[PtecNetwork]) -> None:
        self.networks = [network.eval() for network in networks]
        self._freeze_prompts()

    def _freeze_prompts(self) -> None:
        for network in self.networks:
            network.freeze_prompt()

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.networks[0].device

    def prepare(self, device: str, threads: int) -> None:
        """Move to the task's device and use this number of threads: workers are reused by tasks of other GPUs."""
        torch.set_num_threads(threads)
        weights = (weight for network in self.networks for weight in network.parameters())
        if any(weight.device != torch.device(device) for weight in weights):  # models share their backbone
            for network in self.networks:
                network.to(device)
            self._freeze_prompts()
            release_memory()

    @torch.inference_mode()
    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits, *Shape:* ``(batch, n_labels)``; for the arguments see ``Engine``.

        Raises:
            torch.OutOfMemoryError: if the batch does not fit.
            PtecError: if the GPU cannot be used any more.
        """
        try:
            return self._run(ids, mask)
        except torch.OutOfMemoryError:
            if len(ids) > 1:
                raise
        release_memory()
        return self._run(ids, mask)  # other tasks may have released memory

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        batch = [torch.from_numpy(part).to(self.device) for part in (ids, mask)]
        try:
            return torch.stack([network(*batch) for network in self.networks]).mean(dim=0).cpu().numpy()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            check_gpu(self.device)
            raise


def load_scorer(
    artifact: Artifact,
    *,
    dtype: torch.dtype | str = "float32",
    batch_tokens: int | None = None,
    device: str = "cpu",
    backbone: LoadedBackbone | None = None,
) -> Scorer | TfidfScorer:
    """Load a model of any kind for scoring.

    Args:
        artifact: the model.
        dtype: of the backbone.
        batch_tokens: maximum positions of a batch, padding included; None: a default of the device.
        device: where the backbone computes.
        backbone: a loaded one to share, in this dtype; with LoRA, used by this model alone. None: load it.

    Raises:
        ArtifactError: for LoRA on layers that the backbone does not have.
        BackboneError: if the backbone is missing here or has another content.
    """
    manifest = artifact.manifest
    if manifest.backbone is None:
        return TfidfScorer(artifact.build_tfidf_head())
    model, tokenizer = backbone or load_backbone(manifest.backbone, dtype)
    engine = TorchEngine(build_networks(artifact, model.to(device)))
    default = BATCH_TOKENS if engine.device.type == "cpu" else GPU_BATCH_TOKENS
    tfidf = artifact.build_tfidf_head() if manifest.tfidf else None
    encoder = Encoder.from_manifest(manifest, tokenizer)
    return Scorer(engine, encoder, batch_tokens=batch_tokens or default, tfidf=tfidf)


def load_backbone(named: BackboneRef, dtype: torch.dtype | str) -> LoadedBackbone:
    """Resolve, check and load a backbone that a manifest names.

    Raises:
        BackboneError: if it is missing here or has another content.
    """
    backbone = resolve(named.name)
    backbone.check(named.content_hash)
    return backbone.load(dtype)


def build_networks(artifact: Artifact, backbone: Any) -> list[PtecNetwork]:
    """Put prompt and head of each member on the backbone; LoRA changes the backbone's own weights.

    Raises:
        ArtifactError: for LoRA on layers that the backbone does not have.
    """
    merge_lora(backbone, artifact)
    return [_build_network(member, artifact.manifest, backbone).to(backbone.device) for member in artifact.members]


def _build_network(member: Member, manifest: Manifest, backbone: Any) -> PtecNetwork:
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


def release_memory() -> None:
    """Free dropped networks, and return unused GPU memory to the other processes of the GPU."""
    gc.collect()
    if torch.cuda.is_available():
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
