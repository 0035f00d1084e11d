"""From an artifact to what scores texts, with its backbone where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ptec_udf.engine.device import BATCH_TOKENS, gpu_batch_tokens
from ptec_udf.engine.scorer import Scorer
from ptec_udf.engine.tfidf_scorer import TfidfScorer
from ptec_udf.model.artifact import Artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import BackboneRef
from ptec_udf.model.tfidf import TfidfHead

LoadedBackbone = tuple[Any, Any]
"""A backbone's module and its tokeniser."""


def load_scorer(
    artifact: Artifact,
    *,
    dtype: torch.dtype = torch.float32,
    batch_tokens: int | None = None,
    device: torch.device | None = None,
    backbone: LoadedBackbone | None = None,
) -> Scorer | TfidfScorer:
    """Put a model on its backbone.

    Args:
        artifact: of any kind.
        dtype: arithmetic of the backbone.
        batch_tokens: most positions of a batch, padding included; None: ``BATCH_TOKENS``, on a GPU what fits into it.
        device: where the backbone computes; None: on the processor.
        backbone: the model's, in this dtype and on this device; with LoRA, of this model alone. None: it is loaded.

    Raises:
        ArtifactError: for LoRA on layers that the backbone does not have.
        BackboneError: when the backbone is missing here or is another one.
    """
    named = artifact.manifest.backbone
    if named is None:
        assert artifact.tfidf is not None
        return TfidfScorer(TfidfHead(artifact.tfidf, artifact.head_weight, artifact.head_bias))
    model, tokenizer = backbone or load_backbone(named, dtype=dtype, device=device)
    scorer = Scorer.from_artifact(artifact, model, tokenizer, batch_tokens=batch_tokens or BATCH_TOKENS)
    if device is not None and device.type == "cuda" and batch_tokens is None:
        scorer.batch_tokens = gpu_batch_tokens(scorer.network, scorer.encoder.max_tokens, device)
    return scorer


def load_backbone(named: BackboneRef, *, dtype: torch.dtype, device: torch.device | None = None) -> LoadedBackbone:
    """Resolve, check and load a backbone.

    Args:
        named: as a manifest names it.
        dtype: of its arithmetic.
        device: where it computes; None: on the processor.

    Raises:
        BackboneError: when it is missing here or is another one.
    """
    backbone = resolve(named.name)
    backbone.check(named.content_hash)
    model, tokenizer = backbone.load(dtype)
    return model.to(device or "cpu"), tokenizer


def pad(ids: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad ids to the longest row.

    Returns:
        Ids and mask (1 at text, 0 at padding), each *Shape:* ``(batch, length)``.
    """
    length = max(len(row) for row in ids)
    padded = torch.full((len(ids), length), pad_id, dtype=torch.long)
    mask = torch.zeros((len(ids), length), dtype=torch.long)
    for at, row in enumerate(ids):
        padded[at, : len(row)] = torch.tensor(row)
        mask[at, : len(row)] = 1
    return padded, mask
