"""Text-to-text prompt tuning: a soft prompt before the text makes a frozen decoder write the labels.

Source: Lester et al., "The power of scale for parameter-efficient prompt tuning", EMNLP 2021 (arXiv 2104.08691), as
Buchner et al. (arXiv 2309.12075, section 3) compare it with PTEC. Targets are labels in order of their frequency.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler

from ptec_udf.errors import TrainingError
from ptec_udf.log import logger, progress
from training.config import PromptConfig
from training.data.dataset import Examples, micro_batches, training_steps
from training.fit.checkpoint import Checkpoint, Course
from training.fit.forward import attend_in_parts
from training.fit.prompt import initial_prompt
from training.fit.trainer import one_cycle
from training.flops import Layers
from training.methods.generative import Generative, Writer, lacks_labels
from training.methods.method import Learned, Task
from training.packages import packages

# Activations of more fall out of a processor's cache: 4,096 took 21 seconds where these took 13 (SmolLM2, one core).
_MICRO_BATCH_TOKENS = 1024
# How an answer is decoded makes no difference to what the prompt learns.
_OF_DECODING = {"trie", "most_labels", "n_seeds"}


class PromptTuning(Generative):
    """Train the prompt for a set number of epochs; it learns from train and validation at once."""

    seeded: ClassVar[bool] = True

    method: Literal["prompt_tuning"] = "prompt_tuning"

    n_tokens: int = Field(50, ge=1, description="positions of the prompt")
    lr: float = Field(0.01, gt=0, description="highest learning rate")
    warmup: float = Field(0.3, gt=0, lt=1, description="share of all steps for which the rate rises")
    epochs: int = Field(5, ge=1, description="passes over the rows")
    batch_rows: int = Field(32, ge=1, description="examples of one step")
    most_rows: int | None = Field(None, ge=1, description="learn from so many rows only, of train first; null: all")

    def learn(self, task: Task) -> Learned:
        """Train, and decide by what the decoder writes."""
        rows = task.whole
        writer = Writer.load(self, task.names, task.template, may_write_none=lacks_labels(rows))
        keep = slice(None, self.most_rows)
        tuning = _Tuning(self, writer, Examples(rows.keys[keep], rows.texts[keep], rows.targets[keep]), task.seed)
        course = tuning.run(self._checkpoint(task))
        prompt = tuning.prompt.detach()
        return Learned(
            lambda texts: writer.decide(texts, prompt),
            decisions=None,
            seconds=course.seconds,
            flop=tuning.flop(),
            flop_of_scoring=lambda texts: writer.flop(texts, len(prompt), rows),
        )

    def _checkpoint(self, task: Task) -> Checkpoint:
        """Return the place of the training's state, which methods share that only decode otherwise."""
        facts = self.facts()
        trained = {name: value for name, value in facts.items() if name not in _OF_DECODING}
        told = json.dumps(
            [trained, task.extract_fingerprint, task.validation_share, task.seed, packages()], sort_keys=True
        )
        fingerprint = hashlib.sha256(told.encode()).hexdigest()
        return Checkpoint(task.shared / fingerprint[:16], fingerprint)


class _Tuning:
    """One training of a prompt.

    Attributes:
        prompt: what is trained, *Shape:* ``(n_tokens, width)``.
    """

    def __init__(self, settings: PromptTuning, writer: Writer, rows: Examples, seed: int) -> None:
        self.settings, self.writer, self.seed = settings, writer, seed
        by_frequency = np.argsort(-rows.targets.sum(axis=0), kind="stable")
        self.inputs = [writer.asked(text) for text in rows.texts]
        self.outputs = [
            writer.spelling.spelled([int(label) for label in by_frequency if row[label]]) for row in rows.targets
        ]
        attend_in_parts(writer.model, writer.model.dtype == torch.bfloat16)
        start = PromptConfig(kind="input", n_tokens=settings.n_tokens)
        generator = torch.Generator().manual_seed(seed)
        self.prompt = torch.nn.Parameter(
            initial_prompt(start, writer.model, writer.encoder.tokenizer, writer.names, generator)
        )

    def run(self, checkpoint: Checkpoint) -> Course:
        """Train, from where the checkpoint's state ends if there is one.

        Raises:
            TrainingError: when the loss is not finite.
        """
        settings, course = self.settings, Course()
        lengths = [len(ids) + len(out) for ids, out in zip(self.inputs, self.outputs, strict=True)]
        n_steps = settings.epochs * math.ceil(len(lengths) / settings.batch_rows)
        optimiser = torch.optim.AdamW([self.prompt], lr=settings.lr, weight_decay=0.0)
        if restored := checkpoint.restore(optimiser):
            course, weights = restored
            self.prompt.data.copy_(weights["now"]["prompt"])
            logger.info(f"training resumes after epoch {course.epoch} of {settings.epochs}")
        schedule = one_cycle(optimiser, n_steps, settings.warmup, course.n_steps - 1)
        while course.epoch < settings.epochs:
            started = time.monotonic()
            loss = self._epoch(course, lengths, optimiser, schedule)
            course.seconds += time.monotonic() - started
            logger.info(f"epoch {course.epoch} of {settings.epochs}: loss {loss:.4f}")
            checkpoint.save(course, {"now": {"prompt": self.prompt}}, optimiser)
        return course

    def flop(self) -> float:
        """Return the floating-point operations of the training: all weights are frozen, those that write too."""
        n_prompt, epochs = self.settings.n_tokens, self.settings.epochs
        lengths = [n_prompt + len(ids) + len(out) - 1 for ids, out in zip(self.inputs, self.outputs, strict=True)]
        n_written = sum(len(out) for out in self.outputs)
        of_words = 4 * self.writer.n_output_parameters * n_written
        return epochs * (Layers.of(self.writer.model.base_model).training(lengths) + of_words)

    def _epoch(
        self, course: Course, lengths: list[int], optimiser: torch.optim.Optimizer, schedule: LRScheduler
    ) -> float:
        """Pass once over the rows; return the mean loss of an example."""
        generator, total = torch.Generator().manual_seed(self.seed * 1_000_003 + course.epoch), 0.0
        with progress(f"epoch {course.epoch + 1}", len(lengths)) as step_done:
            for step in training_steps(lengths, batch_rows=self.settings.batch_rows, generator=generator):
                total += self._step(step, lengths, optimiser)
                schedule.step()
                course.n_steps += 1
                step_done(len(step))
        course.epoch += 1
        return total / len(lengths)

    def _step(self, step: list[int], lengths: list[int], optimiser: torch.optim.Optimizer) -> float:
        """Average the gradient over a step's examples and apply it; return the sum of their losses."""
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for batch in micro_batches(step, lengths, _MICRO_BATCH_TOKENS):
            loss = self._loss_sum(batch)
            (loss / len(step)).backward()
            total += loss.item()
        if not math.isfinite(total):
            raise TrainingError("the loss must be finite, was not; lower lr")
        torch.nn.utils.clip_grad_norm_([self.prompt], 1.0)
        optimiser.step()
        return total

    def _loss_sum(self, batch: Sequence[int]) -> torch.Tensor:
        """Add up every row's mean cross-entropy over the tokens of its labels."""
        rows = [torch.cat([self.prompt, self.writer.embedded(self.inputs[at] + self.outputs[at][:-1])]) for at in batch]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True
        )
        model = self.writer.model
        hidden = model.base_model(inputs_embeds=padded.to(model.dtype), attention_mask=mask).last_hidden_state
        written = [hidden[at, len(row) - len(self.outputs[batch[at]]) : len(row)] for at, row in enumerate(rows)]
        logits = model.get_output_embeddings()(torch.cat(written))
        targets = torch.tensor([token for row in batch for token in self.outputs[row]])
        weights = torch.tensor([1 / len(self.outputs[row]) for row in batch for _ in self.outputs[row]])
        return (functional.cross_entropy(logits.float(), targets, reduction="none") * weights).sum()
