"""The training loop: prompt (or LoRA) and head jointly, the backbone's own weights frozen.

Method: Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075), section 3. Different from the published code:
parameters stay in float32, gradients are averaged over a step's examples, the best epoch's weights
are really kept, and a threshold and a calibration follow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from ptec_udf.errors import TrainingError
from ptec_udf.log import logger, progress
from ptec_udf.model.network import PtecNetwork
from training.calibrate.thresholds import common_threshold
from training.config import TrainConfig
from training.data.dataset import Rows, drop_tokens, micro_batches, training_steps
from training.evaluate.metrics import macro_f1, mean_average_precision
from training.fit.average import WeightAverage, put
from training.fit.checkpoint import Checkpoint, Course
from training.fit.forward import autocast_forward, features_of_some, over_rows
from training.fit.head import StandardisedHead
from training.fit.loss import loss_sum
from training.processes.group import ALONE, Group

_MOST_SKIPPED_STEPS = 10
_ATTENTION_LR = 1e-2


@dataclass(frozen=True)
class Trainer:
    """Everything that one training run needs.

    Attributes:
        network: with a ``StandardisedHead``.
        rows: the training rows.
        validation: rows that decide when to stop; None: training takes ``epochs`` epochs and keeps the last.
        weights: of positives, *Shape:* ``(n_labels,)``.
        config: the configuration.
        bfloat16: whether the backbone computes in bfloat16.
        checkpoint: where the state is kept between epochs.
        epochs: most passes over the rows; the schedule is laid out over those of the configuration.
        auxiliary_weights: of positives of auxiliary labels, *Shape:* ``(n_auxiliary,)``; None: none are learned.
        group: the processes that train together.
    """

    network: PtecNetwork
    rows: Rows
    validation: Rows | None
    weights: torch.Tensor
    config: TrainConfig
    bfloat16: bool
    checkpoint: Checkpoint
    epochs: int
    auxiliary_weights: torch.Tensor | None = None
    group: Group = ALONE

    @property
    def log_weights(self) -> np.ndarray:
        """Logarithms of the weights of positives, by which logits are shifted, *Shape:* ``(n_labels,)``."""
        return self.weights.double().log().cpu().numpy()

    def fit(self, after_epoch: Callable[[Course], None] = lambda course: None) -> Course:
        """Train until the last epoch or until patience ends; leave the best epoch's weights in the network.

        Args:
            after_epoch: called with the course so far, before the epoch's state is kept; it may raise to end it.

        Raises:
            TrainingError: when too many steps have no finite gradient.
        """
        now = {name: parameter.data for name, parameter in trained_parameters(self.network)}
        optimiser = _optimiser(self.network, self.config)
        course, best, average = Course(), {}, WeightAverage(now, self.config.optimiser.averaging)
        if restored := self.checkpoint.restore(optimiser):
            course, weights = restored
            put(weights["now"], now)
            put(weights["average"], average.weights)
            best = weights["best"]
            logger.info(f"training resumes after epoch {course.epoch}")
        if len(set(self.group.gathered(course.n_steps))) > 1:
            raise TrainingError("all processes must see the same state; out must be in a folder that they share")
        schedule = _schedule(optimiser, self.config, self._steps_per_epoch() * self.config.stopping.epochs, course)
        while not self._is_over(course):
            started = time.monotonic()
            self.group.level(now.values())
            loss = self._epoch(course, optimiser, schedule, average)
            values: dict[str, float] = {}
            if self.validation is not None:
                with average.in_place_of(now):
                    values = self.group.agreed(self.measure(self.validation))
            course.seconds += time.monotonic() - started
            course.history.append({"epoch": course.epoch, "loss": loss, **values, "seconds": course.seconds})
            if self._improves(course):
                course.best_epoch, course.best_value = course.epoch, values.get(self.config.stopping.metric)
                best = {name: value.clone() for name, value in average.weights.items()}
            logger.info(self._line(course))
            after_epoch(course)
            if self.group.is_first:
                self.checkpoint.save(course, {"now": now, "average": average.weights, "best": best}, optimiser)
        put(best, now)
        return course

    def measure(self, rows: Rows) -> dict[str, float]:
        """Return mean average precision and the best macro-F1 of one common threshold."""
        logits = self.logits(rows)
        return {name: measure(logits, rows.targets) for name, measure in MEASURES.items()}

    def logits(self, rows: Rows) -> np.ndarray:
        """Score rows, *Shape:* ``(n_rows, n_labels)``."""
        self.network.eval()
        forward = autocast_forward(self.network, self.bfloat16)
        budget = self.config.optimiser.micro_batch_tokens
        return self.group.over(lambda inputs: over_rows(forward, inputs, budget), rows.inputs)

    def _epoch(self, course: Course, optimiser: AdamW, schedule: LRScheduler, average: WeightAverage) -> float:
        """Pass once over the training rows; return the mean loss of an example."""
        self.network.train()
        seed = self.config.seed * 1_000_003 + course.epoch
        torch.manual_seed(seed)  # dropout draws from the process's generator
        generator = torch.Generator().manual_seed(seed)
        lengths = [len(text) for text in self.rows.inputs]
        total, skipped = 0.0, 0
        with progress(f"epoch {course.epoch + 1}", len(lengths)) as step_done:
            for step in training_steps(lengths, batch_rows=self.config.optimiser.batch_rows, generator=generator):
                loss = self._step(step, lengths, optimiser)
                skipped += not math.isfinite(loss)
                if skipped > _MOST_SKIPPED_STEPS:
                    raise TrainingError(f"over {_MOST_SKIPPED_STEPS} steps had no finite gradient; lower the rates")
                total += loss * len(step) if math.isfinite(loss) else 0.0
                schedule.step()
                course.n_steps += 1
                average.update(course.n_steps)
                step_done(len(step))
        course.epoch += 1
        return total / len(lengths)

    def _step(self, step: list[int], lengths: list[int], optimiser: AdamW) -> float:
        """Average the gradient over a step's examples and apply it, unless it is not finite; return the loss."""
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for batch in micro_batches(step, lengths, self.config.optimiser.micro_batch_tokens):
            # Tokens are dropped from all rows, also from those of other processes: equal draws in all of them.
            inputs = [drop_tokens(self.rows.inputs[row], self.config.token_dropout) for row in batch]
            own = self.group.deal(len(batch))
            features = features_of_some(self.network, self.bfloat16, inputs, own)
            loss = self._loss(features, batch, own) / len(step)
            loss.backward()
            total += loss.item()
        trained = [parameter for _, parameter in trained_parameters(self.network)]
        total = self.group.add_up(total, trained)
        norm = torch.nn.utils.clip_grad_norm_(trained, self.config.optimiser.clip_norm)
        if not torch.isfinite(norm):
            return float("nan")
        optimiser.step()
        return total

    def _loss(self, features: torch.Tensor, batch: list[int], own: list[int]) -> torch.Tensor:
        """Add up the loss of a batch's own rows: of their labels and, weighted, of their auxiliary ones."""
        head, rows = self.network.head, [batch[at] for at in own]

        def loss(head: torch.nn.Module, targets: np.ndarray, weights: torch.Tensor) -> torch.Tensor:
            wanted = torch.from_numpy(targets[rows]).to(weights.device)
            return loss_sum(head(features)[own], wanted, weights, self.config.loss)

        total = loss(head, self.rows.targets, self.weights)
        if self.rows.auxiliary is None or self.auxiliary_weights is None or self.config.auxiliary is None:
            return total
        assert isinstance(head, StandardisedHead)
        assert head.auxiliary is not None
        return total + self.config.auxiliary.weight * loss(head.auxiliary, self.rows.auxiliary, self.auxiliary_weights)

    def _steps_per_epoch(self) -> int:
        return math.ceil(len(self.rows) / self.config.optimiser.batch_rows)

    def _is_over(self, course: Course) -> bool:
        waited = course.epoch - course.best_epoch
        return course.epoch >= self.epochs or (course.best_epoch > 0 and waited >= self.config.stopping.patience)

    def _improves(self, course: Course) -> bool:
        """Tell whether the last epoch is the best so far; where nothing is measured, the last one is."""
        stopping, last = self.config.stopping, course.history[-1]
        if self.validation is None or course.best_value is None:
            return True
        return last[stopping.metric] > course.best_value + stopping.min_improvement

    def _line(self, course: Course) -> str:
        last = course.history[-1]
        line = f"epoch {course.epoch} of {self.epochs}: loss {last['loss']:.4f}"
        if self.validation is not None:
            line += (
                f", on validation mAP {last['map']:.4f}, macro-F1 {last['macro_f1']:.4f}, best so far: epoch "
                f"{course.best_epoch}"
            )
        return f"{line}, {course.seconds:.0f} s in all"


def _best_macro_f1(logits: np.ndarray, targets: np.ndarray) -> float:
    """Macro-F1 at the common threshold that suits these rows best."""
    return macro_f1(logits >= common_threshold(logits, targets), targets)


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "map": mean_average_precision,
    "macro_f1": _best_macro_f1,
}
"""What validation is measured by after each epoch, from logits and targets; ``stopping.metric`` is one of them."""


def trained_parameters(network: PtecNetwork) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield prompt, or LoRA, and head by name; the backbone's own parameters are frozen."""
    return ((name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad)


def _optimiser(network: PtecNetwork, config: TrainConfig) -> AdamW:
    """Make AdamW with one group for each part that is trained: prompt or LoRA, label attention, head."""
    options = config.optimiser
    adapter = (options.prompt_lr, options.prompt_weight_decay)
    if config.lora is not None:
        adapter = (config.lora.lr, config.lora.weight_decay)
    of_attention = (options.attention_lr or _ATTENTION_LR, 0.0)
    of_parts = {"head": (options.head_lr, options.head_weight_decay), "attention": of_attention}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in trained_parameters(network):
        groups.setdefault(of_parts.get(name.partition(".")[0], adapter), []).append(parameter)
    return AdamW([{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()])


def one_cycle(optimiser: AdamW, n_steps: int, warmup: float, done: int) -> OneCycleLR:
    """Let rates rise for a share of ``n_steps`` and fall to nearly 0, behind ``done`` steps; -1: none.

    Smith and Topin, "Super-convergence", 2017 (arXiv 1708.07120).
    """
    return OneCycleLR(
        optimiser,
        max_lr=[group["lr"] for group in optimiser.param_groups],  # where it goes on, the groups have their own
        total_steps=n_steps + 1,
        # torch divides by zero where the rise ends with the very first step.
        pct_start=warmup if warmup * (n_steps + 1) > 1 else 0.0,
        cycle_momentum=False,
        last_epoch=done,
    )


def _schedule(optimiser: AdamW, config: TrainConfig, n_steps: int, course: Course) -> LRScheduler:
    """Make the learning-rate schedule, at the step where the course stands."""
    options, done = config.optimiser, course.n_steps - 1
    if options.schedule == "onecycle":
        return one_cycle(optimiser, n_steps, options.warmup, done)
    if options.schedule == "exponential":
        return LambdaLR(optimiser, lambda step: 0.01 ** (step / n_steps), last_epoch=done)
    n_warmup = int(options.warmup * n_steps)

    def linear(step: int) -> float:
        return (step + 1) / n_warmup if step < n_warmup else max(0.0, (n_steps - step) / (n_steps - n_warmup))

    return LambdaLR(optimiser, linear, last_epoch=done)
