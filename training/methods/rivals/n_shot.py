"""N-shot: a frozen decoder reads examples in words and writes the labels of the next text.

Source: Brown et al., "Language models are few-shot learners", NeurIPS 2020, as arXiv 2309.12075, section 3, uses it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from training.data.dataset import Examples
from training.methods.method import Learned, Task
from training.methods.rivals.writer import GenerativeMethod, Writer

_BETWEEN = "\n\n"


class NShot(GenerativeMethod):
    """Nothing is trained; the examples are drawn at random from train and validation."""

    seeded: ClassVar[bool] = True
    ends_with: ClassVar[str | None] = _BETWEEN  # the decoder is not trained to end: it continues as the examples do

    method: Literal["n_shot"] = "n_shot"

    n_examples: int = Field(4, ge=0, description="examples before each text")
    lists_labels: bool = Field(False, description="whether the names of all labels come first")
    example_tokens: int = Field(96, ge=8, description="tokens of an example's text at most")

    def learn(self, task: Task) -> Learned:
        """Draw the examples."""
        writer = Writer.load(self, task)
        beginning = self.beginning(writer, task.whole, np.random.default_rng(task.seed))
        return Learned(lambda texts: writer.decide(texts, writer.embed(beginning)), decisions=None)

    def beginning(self, writer: Writer, rows: Examples, random: np.random.Generator) -> list[int]:
        """Return the tokens before every text: all labels if wanted, then examples of ``rows``."""
        between = writer.encoder.tokenizer(_BETWEEN, add_special_tokens=False)["input_ids"]
        if writer.spelling.end in between:
            between = between[between.index(writer.spelling.end) + 1 :]
        tokens: list[int] = []
        if self.lists_labels:
            tokens += [*writer.spelling.spell(range(len(writer.names))), *between]
        for at in random.permutation(len(rows))[: self.n_examples]:
            (text,) = writer.encoder.encode([rows.texts[at]])
            labels = np.flatnonzero(rows.targets[at]).tolist()
            tokens += text.ids[: self.example_tokens] + writer.question
            tokens += [*writer.spelling.spell(labels), *between]
        return tokens
