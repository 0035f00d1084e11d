"""The reference engine: transformers with SDPA, on a CPU or GPU."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptec_udf.engine.encoder import Encoder, pad_batch
from ptec_udf.engine.scorer import BATCH_TOKENS, Scorer, TfidfScorer
from ptec_udf.errors import PtecError
from ptec_udf.model.artifact import Artifact, Member
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import BackboneRef, Manifest
from ptec_udf.model.network import Head, LabelAttention, PtecNetwork, merge_lora

GPU_BATCH_TOKENS = 16_384  # positions of a batch on a GPU; a batch that does not fit in memory is halved

LoadedBackbone = tuple[Any, Any]  # a backbone's module and its tokenizer


class TorchEngine:
    """Runs PTEC networks on one backbone in eval mode with frozen prompts; logits are the mean of theirs.

    Source of the mean: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles", NeurIPS 2017 (arXiv 1612.01474).
    """

    def __init__(self, networks: Sequence[PtecNetwork]) -> None:
        self.networks = [network.eval() for network in networks]
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
                network.to(device).freeze_prompt()
            release_memory()

    @torch.inference_mode()
    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits, *Shape:* ``(batch, n_labels)``; for the arguments see ``Engine``.

        Raise PtecError if this process cannot use the GPU any more: it ends the worker, and Spark retries the task.
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

    ``batch_tokens`` are positions of a batch, padding included; None: a default of the device. ``backbone`` is a loaded
    one to share, in this dtype; with LoRA, used by this model alone. None: load it.
    """
    manifest = artifact.manifest
    if manifest.backbone is None:
        return TfidfScorer(artifact.build_tfidf_head())
    model, tokenizer = backbone or load_backbone(manifest.backbone, dtype)
    merge_lora(model.to(device), artifact)
    engine = TorchEngine([_build_network(member, manifest, model).to(model.device) for member in artifact.members])
    default = BATCH_TOKENS if engine.device.type == "cpu" else GPU_BATCH_TOKENS
    tfidf = artifact.build_tfidf_head() if manifest.tfidf else None
    encoder = Encoder.from_manifest(manifest, tokenizer)
    return Scorer(engine, encoder, batch_tokens=batch_tokens or default, tfidf=tfidf)


def load_backbone(named: BackboneRef, dtype: torch.dtype | str) -> LoadedBackbone:
    """Resolve, check and load a backbone that a manifest names; raise BackboneError if it is not the same here."""
    backbone = resolve(named.name)
    backbone.check(named.content_hash)
    return backbone.load(dtype)


shared_backbone = lru_cache(1)(load_backbone)  # the last loaded one, for models that do not change it


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
    """Raise PtecError if this process cannot use the GPU any more, so that no text is blamed for it."""
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
