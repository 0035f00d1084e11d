"""N-shot: a frozen decoder is shown examples in words and writes the labels of the next text.

Source: Brown et al., "Language models are few-shot learners", NeurIPS 2020, as arXiv 2309.12075, section 3, uses it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from training.data.dataset import Examples
from training.methods.generative import Generative, Writer, lacks_labels
from training.methods.method import Learned, Task

_BETWEEN = "\n\n"


class NShot(Generative):
    """Nothing is trained; the examples are drawn at random from train and validation."""

    seeded: ClassVar[bool] = True
    ends_with: ClassVar[str | None] = _BETWEEN  # the decoder has not been trained to end: it goes on as the examples do

    method: Literal["n_shot"] = "n_shot"

    n_examples: int = Field(4, ge=0, description="examples before each text")
    lists_labels: bool = Field(False, description="whether the names of all labels come first")
    example_tokens: int = Field(96, ge=8, description="tokens of an example's text; what is longer is cut")

    def learn(self, task: Task) -> Learned:
        """Draw the examples."""
        writer = Writer.load(self, task.names, task.template, may_write_none=lacks_labels(task.whole))
        shown = _shown(self, writer, task.whole, np.random.default_rng(task.seed))
        return Learned(
            lambda texts: writer.decide(texts, writer.embedded(shown)),
            decisions=None,
            flop_of_scoring=lambda texts: writer.flop(texts, len(shown), task.whole),
        )


def _shown(settings: NShot, writer: Writer, rows: Examples, random: np.random.Generator) -> list[int]:
    """Spell what stands before every text."""
    between = writer.encoder.tokenizer(_BETWEEN, add_special_tokens=False)["input_ids"]
    if writer.spelling.end in between:
        between = between[between.index(writer.spelling.end) + 1 :]  # after the end of labels
    shown: list[int] = []
    if settings.lists_labels:
        shown += [*writer.spelling.spelled(range(len(writer.names))), *between]
    for at in random.permutation(len(rows))[: settings.n_examples]:
        (text,) = writer.encoder.encode([rows.texts[at]])
        labels = [label for label, holds in enumerate(rows.targets[at]) if holds]
        shown += text.ids[: settings.example_tokens] + writer.question
        shown += [*writer.spelling.spelled(labels), *between]
    return shown
