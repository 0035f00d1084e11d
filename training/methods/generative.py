"""The generative rivals of arXiv 2309.12075: a decoder writes the labels. Benchmark only.

N-shot: Brown et al., "Language models are few-shot learners", NeurIPS 2020. Prompt tuning: Lester et al., "The power of
scale for parameter-efficient prompt tuning", EMNLP 2021 (arXiv 2104.08691).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn.utils.rnn import pad_sequence

from ptec_training.data.dataset import Examples
from ptec_training.methods.method import Learned, Task
from ptec_training.methods.writer import GenerativeMethod, Writer
from ptec_udf.errors import TrainingError
from ptec_udf.log import logger, progress

_BETWEEN_EXAMPLES = "\n\n"
_EXAMPLE_TOKENS = 96
_BATCH_ROWS = 32
_MICRO_BATCH_ROWS = 8  # activations of more do not fit into the caches of a CPU


class NShot(GenerativeMethod):
    """A frozen decoder reads examples, drawn from train and validation, and continues with the next text's labels."""

    seeded: ClassVar[bool] = True
    ends_with: ClassVar[str | None] = _BETWEEN_EXAMPLES  # the decoder is not trained to end

    method: Literal["n_shot"] = "n_shot"

    n_examples: int = Field(4, ge=0, description="examples before each text")
    lists_labels: bool = Field(False, description="whether the names of all labels come first")

    def learn(self, task: Task) -> Learned:
        """Draw the examples."""
        writer = Writer.load(self, task)
        beginning = self.beginning(writer, task)
        return Learned(lambda texts: writer.decide(texts, writer.embed(beginning)), decisions=None)

    def beginning(self, writer: Writer, task: Task) -> list[int]:
        """Return the tokens before every text: all labels if wanted, then examples."""
        rows, trie = task.whole, writer.trie
        between = writer.encoder.tokenizer(_BETWEEN_EXAMPLES, add_special_tokens=False)["input_ids"]
        if trie.end in between:
            between = between[between.index(trie.end) + 1 :]
        tokens = [*trie.spell(range(len(writer.names))), *between] if self.lists_labels else []
        for at in np.random.default_rng(task.seed).permutation(len(rows))[: self.n_examples]:
            (text,) = writer.encoder.encode([rows.texts[at]])
            labels = np.flatnonzero(rows.targets[at]).tolist()
            tokens += [*text.ids[:_EXAMPLE_TOKENS], *writer.question, *trie.spell(labels), *between]
        return tokens


class PromptTuning(GenerativeMethod):
    """A soft prompt before the text is trained to make a frozen decoder write the labels; nothing is chosen."""

    seeded: ClassVar[bool] = True

    method: Literal["prompt_tuning"] = "prompt_tuning"

    n_tokens: int = Field(50, ge=1, description="positions of the prompt")
    lr: float = Field(0.01, gt=0, description="highest learning rate")
    epochs: int = Field(5, ge=1, description="passes over the rows of train and validation")
    max_rows: int | None = Field(None, ge=1, description="rows to learn from at most, of train first; null: all")

    def learn(self, task: Task) -> Learned:
        """Train the prompt; the decoder's answers are the decisions."""
        writer, rows = Writer.load(self, task), task.whole
        prompt = self.train(writer, rows.select(range(len(rows))[: self.max_rows]), task.seed).detach()
        return Learned(lambda texts: writer.decide(texts, prompt), decisions=None)

    def train(self, writer: Writer, rows: Examples, seed: int) -> torch.Tensor:
        """Return the trained prompt, *Shape:* ``(n_tokens, width)``; raise a TrainingError for an infinite loss."""
        torch.manual_seed(seed)
        by_frequency = np.argsort(-rows.targets.sum(axis=0), kind="stable").tolist()
        questions = [writer.ask(text) for text in rows.texts]
        answers = [writer.trie.spell([at for at in by_frequency if row[at]]) for row in rows.targets]
        writer.model.requires_grad_(False)
        names = [token for label in writer.trie.labels for token in label] * self.n_tokens
        prompt = torch.nn.Parameter(writer.embed(names[: self.n_tokens]).detach().float().clone())
        optimiser = torch.optim.AdamW([prompt], lr=self.lr, weight_decay=0.0)
        n_steps = self.epochs * math.ceil(len(rows) / _BATCH_ROWS)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=max(n_steps + 1, 4))
        for epoch in range(self.epochs):
            total = 0.0
            with progress(f"epoch {epoch + 1}", len(rows)) as step_done:
                for step in torch.randperm(len(rows)).split(_BATCH_ROWS):
                    optimiser.zero_grad(set_to_none=True)
                    for batch in step.split(_MICRO_BATCH_ROWS):
                        loss = _loss(writer, prompt, [(questions[at], answers[at]) for at in batch.tolist()])
                        (loss / len(step)).backward()
                        total += loss.item()
                    if not math.isfinite(total):
                        raise TrainingError("the loss must be finite, was not; lower lr")
                    torch.nn.utils.clip_grad_norm_([prompt], 1.0)
                    optimiser.step()
                    schedule.step()
                    step_done(len(step))
            logger.info(f"epoch {epoch + 1} of {self.epochs}: loss {total / len(rows):.4f}")
        return prompt


def _loss(writer: Writer, prompt: torch.Tensor, rows: Sequence[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Sum each row's mean cross-entropy over the tokens of its answer."""
    inputs = [torch.cat([prompt, writer.embed(question + answer[:-1])]) for question, answer in rows]
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long, device=row.device) for row in inputs], batch_first=True)
    padded = pad_sequence(inputs, batch_first=True).to(writer.model.dtype)
    hidden = writer.model.base_model(inputs_embeds=padded, attention_mask=mask).last_hidden_state
    pairs = zip(inputs, rows, strict=True)
    written = [hidden[at, len(row) - len(answer) : len(row)] for at, (row, (_, answer)) in enumerate(pairs)]
    logits = writer.model.get_output_embeddings()(torch.cat(written)).float()
    targets = torch.tensor([token for _, answer in rows for token in answer], device=logits.device)
    weights = torch.tensor([1 / len(answer) for _, answer in rows for _ in answer], device=logits.device)
    return (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * weights).sum()
