"""Each text alone, in float32, as the library runs it: what scores in batches are held against.

Nothing here is the engine's that decides what texts share. There is no padding and no mask that tells it from text,
the pooling is written anew, and prompt and text are run together for each text. An input prompt's embeddings stand
before the text's in one pass. The keys and values of a deep prompt are put into a ``DynamicCache`` of the library,
filled afresh for each text. MPNet takes no cache: its deep prompts can be run by our own ``mpnet.run`` alone, which is
given this one text.

The engine's ``Encoder`` cuts texts, given one at a time, since the rule by which they are cut is ours. LoRA is added
into the weights by the one function that there is for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.result import TEXT_ERRORS, ScoredText, make_result, mark_failed
from ptec_udf.log import progress
from ptec_udf.model import mpnet
from ptec_udf.model.artifact import Artifact, Member
from ptec_udf.model.backbone import resolve
from ptec_udf.model.lora import merge_lora
from ptec_udf.model.prefix import BackboneShape, split_deep_prompt


def score_alone(artifact: Artifact, texts: Sequence[str]) -> list[ScoredText]:
    """Score each text by itself.

    Raises:
        ArtifactError: for LoRA on layers that the backbone does not have.
        BackboneError: when the backbone is missing here.
    """
    model = PlainTerms(artifact) if artifact.manifest.backbone is None else PlainModel(artifact)
    found = []
    with progress("texts scored alone", len(texts)) as step:
        for text in texts:
            found.append(model.score(text))
            step(1)
    return found


class PlainTerms:
    """A model without a backbone."""

    def __init__(self, artifact: Artifact) -> None:
        """Take the terms with their head."""
        assert artifact.tfidf is not None
        self._head = artifact.build_tfidf_head()

    def score(self, text: str) -> ScoredText:
        """Score one text; a blank one is ``empty``."""
        result = ScoredText()
        if not text or text.isspace():
            return result
        try:
            return make_result(
                text, self._head.logits(text), n_tokens=len(text.split()), n_truncated=0, batch_positions=0
            )
        except TEXT_ERRORS as error:
            mark_failed(result, error)
            return result


class PlainModel:
    """A model on a backbone of its own, in float32."""

    def __init__(self, artifact: Artifact) -> None:
        """Load the backbone and add LoRA into its weights."""
        manifest = artifact.manifest
        assert manifest.backbone is not None
        self._backbone, tokenizer = resolve(manifest.backbone.name).load(torch.float32)
        if manifest.lora is not None:
            merge_lora(self._backbone, artifact.adapter, manifest.lora.alpha / manifest.lora.rank)
        self._encoder = Encoder.from_manifest(manifest, tokenizer)
        self._manifest, self._members = manifest, [_as_tensors(member) for member in artifact.members]
        self._terms = artifact.build_tfidf_head() if manifest.tfidf else None

    def score(self, text: str) -> ScoredText:
        """Score one text; one without any token is ``empty``."""
        result = ScoredText()
        try:
            (encoded,) = self._encoder.encode([text])
            if not encoded.ids or text.isspace():
                return result
            values = self._logits(encoded.ids)
            if self._terms is not None:
                values = values + self._terms.logits(text)
        except TEXT_ERRORS as error:
            mark_failed(result, error)
            return result
        n_tokens = len(encoded.ids)
        return make_result(text, values, n_tokens=n_tokens, n_truncated=encoded.n_truncated, batch_positions=n_tokens)

    @torch.inference_mode()
    def _logits(self, ids: list[int]) -> np.ndarray:
        """Return the mean of the members' logits, *Shape:* ``(n_labels,)``."""
        found = [self._of_hidden(self._hidden(member, torch.tensor([ids])), member) for member in self._members]
        return torch.stack(found).mean(dim=0).numpy()

    def _hidden(self, member: Any, ids: torch.Tensor) -> torch.Tensor:
        """Run one text, ids *Shape:* ``(1, length)``; return its hidden states, *Shape:* ``(length, n_features)``."""
        if member.prompt is None or self._manifest.prompt is None:
            hidden = self._backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        elif self._manifest.prompt.kind == "input":
            together = torch.cat([member.prompt[None], self._backbone.get_input_embeddings()(ids)], dim=1)
            ones = torch.ones(together.shape[:2], dtype=torch.long)
            hidden = self._backbone(inputs_embeds=together, attention_mask=ones).last_hidden_state
        else:
            hidden = self._behind_deep_prompt(member.prompt, ids)
        return hidden[0, -ids.shape[1] :]

    def _behind_deep_prompt(self, prompt: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Run one text behind keys and values that are laid out for it alone."""
        prefix = split_deep_prompt(prompt, BackboneShape.of(self._backbone))
        if mpnet.is_mpnet(self._backbone):
            return mpnet.run(self._backbone, ids, torch.ones_like(ids), prefix)
        cache = DynamicCache(config=self._backbone.config)
        for layer, (keys, values) in enumerate(prefix):
            cache.update(keys, values, layer)
        ones = torch.ones((1, len(prompt) + ids.shape[1]), dtype=torch.long)
        return self._backbone(input_ids=ids, attention_mask=ones, cache=cache, use_cache=True).last_hidden_state

    def _of_hidden(self, hidden: torch.Tensor, member: Any) -> torch.Tensor:
        """Pool all positions, *Shape:* ``(length, n_features)``, and apply the head; *Shape:* ``(n_labels,)``."""
        if member.queries is not None:
            weights = (hidden @ member.queries.T).softmax(dim=0)  # of each position for each label
            return ((weights.T @ hidden) * member.weight).sum(dim=1) + member.bias
        pooled = hidden[-1] if self._manifest.pooling == "last" else hidden.mean(dim=0)
        return member.weight @ pooled + member.bias


def _as_tensors(member: Member) -> Any:
    """Return a member's parts as tensors."""
    return Member(*(None if part is None else torch.from_numpy(part) for part in member))  # type: ignore[arg-type]
