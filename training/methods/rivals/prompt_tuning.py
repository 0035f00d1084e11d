"""Text-to-text prompt tuning: a soft prompt before the text makes a frozen decoder write the labels.

Source: Lester et al., "The power of scale for parameter-efficient prompt tuning", EMNLP 2021 (arXiv 2104.08691), as
Buchner et al. (arXiv 2309.12075, section 3) compare it with PTEC. Targets are labels in order of their frequency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn.utils.rnn import pad_sequence

from ptec_udf.errors import TrainingError
from ptec_udf.log import logger, progress
from training.data.dataset import Examples
from training.methods.method import Learned, Task
from training.methods.rivals.writer import GenerativeMethod, Writer

_MICRO_BATCH_ROWS = 8  # activations of more do not fit into the caches of a CPU


class PromptTuning(GenerativeMethod):
    """Train the prompt for a set number of epochs on train and validation; nothing is chosen."""

    seeded: ClassVar[bool] = True

    method: Literal["prompt_tuning"] = "prompt_tuning"

    n_tokens: int = Field(50, ge=1, description="positions of the prompt")
    lr: float = Field(0.01, gt=0, description="highest learning rate")
    warmup: float = Field(0.3, gt=0, lt=1, description="share of all steps in which the rate rises")
    epochs: int = Field(5, ge=1, description="passes over the rows")
    batch_rows: int = Field(32, ge=1, description="examples of one step")
    max_rows: int | None = Field(None, ge=1, description="rows to learn from at most, of train first; null: all")

    def learn(self, task: Task) -> Learned:
        """Train the prompt; the decoder's answers are the decisions."""
        writer, rows = Writer.load(self, task), task.whole
        rows = rows.select(list(range(min(len(rows), self.max_rows or len(rows)))))
        prompt = self.train(writer, rows, task.seed).detach()
        return Learned(lambda texts: writer.decide(texts, prompt), decisions=None)

    def train(self, writer: Writer, rows: Examples, seed: int) -> torch.Tensor:
        """Return the trained prompt, *Shape:* ``(n_tokens, width)``.

        Raises:
            TrainingError: when the loss is not finite.
        """
        torch.manual_seed(seed)
        by_frequency = np.argsort(-rows.targets.sum(axis=0), kind="stable").tolist()
        questions = [writer.ask(text) for text in rows.texts]
        answers = [writer.spelling.spell([at for at in by_frequency if row[at]]) for row in rows.targets]
        writer.model.requires_grad_(False)
        prompt = torch.nn.Parameter(_initial_prompt(writer, self.n_tokens))
        optimiser = torch.optim.AdamW([prompt], lr=self.lr, weight_decay=0.0)
        n_steps = self.epochs * math.ceil(len(rows) / self.batch_rows)
        # torch divides by zero where the rise ends with the first step.
        warmup = self.warmup if self.warmup * (n_steps + 1) > 1 else 0.0
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=n_steps + 1, pct_start=warmup)
        for epoch in range(self.epochs):
            total = 0.0
            with progress(f"epoch {epoch + 1}", len(rows)) as step_done:
                for step in torch.randperm(len(rows)).split(self.batch_rows):
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


def _initial_prompt(writer: Writer, n_tokens: int) -> torch.Tensor:
    """Return the embeddings of the label names' tokens, repeated up to ``n_tokens``."""
    tokens = [token for label in writer.spelling.labels for token in label]
    return writer.embed((tokens * n_tokens)[:n_tokens]).detach().float().clone()


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
