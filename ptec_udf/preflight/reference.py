"""Reference logits: each text alone in float32, by the library's own forward pass.

The engine's batching, padding, pooling and prompt cache are not used. Only cutting a text, merging LoRA and MPNet's
deep prompts share code with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.scorer import TEXT_ERRORS
from ptec_udf.log import progress
from ptec_udf.model import mpnet
from ptec_udf.model.artifact import Artifact, Member
from ptec_udf.model.backbone import resolve
from ptec_udf.model.network import merge_lora
from ptec_udf.model.prefix import BackboneShape, split_deep_prompt


def reference_logits(artifact: Artifact, texts: Sequence[str]) -> list[NDArray[np.float32] | None]:
    """Score each text alone, *Shape:* ``(n_labels,)`` each; None for a text without tokens or with an error.

    Raise BackboneError if the backbone is missing here.
    """
    score = _Reference(artifact).logits if artifact.manifest.backbone else artifact.build_tfidf_head().logits
    with progress("reference", len(texts)) as step:
        return [_try(score, text, step) for text in texts]


def _try(score: Callable[[str], Any], text: str, step: Callable[[int], None]) -> NDArray[np.float32] | None:
    step(1)
    try:
        logits = score(text)
    except TEXT_ERRORS:
        return None
    return logits if logits is not None and np.isfinite(logits).all() else None


class _Reference:
    """A model on its backbone in float32."""

    def __init__(self, artifact: Artifact) -> None:
        manifest = artifact.manifest
        assert manifest.backbone is not None
        self.backbone, tokenizer = resolve(manifest.backbone.name).load(torch.float32)
        merge_lora(self.backbone, artifact)
        self.encoder = Encoder.from_manifest(manifest, tokenizer)
        self.manifest, self.members = manifest, [_as_tensors(member) for member in artifact.members]
        self.tfidf = artifact.build_tfidf_head() if manifest.tfidf else None

    @torch.inference_mode()
    def logits(self, text: str) -> NDArray[np.float32] | None:
        """Return the mean over the members; None for a text without tokens."""
        (encoded,) = self.encoder.encode([text])
        if not encoded.ids or text.isspace():
            return None
        ids = torch.tensor([encoded.ids])
        found = torch.stack([self._head(self._hidden(member, ids), member) for member in self.members]).mean(dim=0)
        logits: NDArray[np.float32] = found.numpy()
        return logits if self.tfidf is None else logits + self.tfidf.logits(text)

    def _hidden(self, member: Any, ids: torch.Tensor) -> torch.Tensor:
        """Run prompt and text, ids *Shape:* ``(1, length)``; hidden states of the text, ``(length, width)``."""
        prompt, config = member.prompt, self.backbone.config
        if prompt is None or self.manifest.prompt is None:
            hidden = self.backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        elif self.manifest.prompt.kind == "input":
            embeddings = torch.cat([prompt[None], self.backbone.get_input_embeddings()(ids)], dim=1)
            mask = torch.ones(embeddings.shape[:2], dtype=torch.long)
            hidden = self.backbone(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        else:
            prefix = split_deep_prompt(prompt, BackboneShape.of(self.backbone))
            if mpnet.is_mpnet(self.backbone):  # takes no cache
                return mpnet.run(self.backbone, ids, torch.ones_like(ids), prefix)[0]
            cache = DynamicCache(config=config)
            for layer, (keys, values) in enumerate(prefix):
                cache.update(keys, values, layer)
            mask = torch.ones((1, len(prompt) + ids.shape[1]), dtype=torch.long)
            outputs = self.backbone(input_ids=ids, attention_mask=mask, cache=cache, use_cache=True)
            hidden = outputs.last_hidden_state
        return hidden[0, -ids.shape[1] :]

    def _head(self, hidden: torch.Tensor, member: Any) -> torch.Tensor:
        """Pool the positions, *Shape:* ``(length, width)``, and apply the head; ``(n_labels,)``."""
        if member.queries is not None:
            weights = (hidden @ member.queries.T).softmax(dim=0)
            return ((weights.T @ hidden) * member.weight).sum(dim=1) + member.bias
        pooled = hidden[-1] if self.manifest.pooling == "last" else hidden.mean(dim=0)
        return member.weight @ pooled + member.bias


def _as_tensors(member: Member) -> Any:
    return Member(*(None if part is None else torch.from_numpy(part) for part in member))  # type: ignore[arg-type]
