"""The training loop: prompt (or LoRA) and head jointly, the backbone's own weights frozen.

Method: Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075), section 3. Other than in the published code,
parameters stay in float32, and the best epoch's weights are kept.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from ptec_training.calibrate.thresholds import common_threshold
from ptec_training.config import TrainConfig
from ptec_training.data.dataset import Rows, drop_tokens, training_steps
from ptec_training.evaluate.metrics import macro_f1, mean_average_precision
from ptec_training.fit.distributed import from_main_process, process_state, sum_gradients
from ptec_training.fit.head import positive_weights
from ptec_training.fit.inputs import TrainingInputs
from ptec_training.fit.network import feature_function, forward_batches, initial_network
from ptec_training.fit.state import Checkpoint, TrackedWeights, TrainingState, copy_weights
from ptec_udf.engine.encoder import length_sorted_batches
from ptec_udf.errors import TrainingError
from ptec_udf.log import logger, progress

_WARMUP = 0.3  # share of all steps in which learning rates rise
_MAX_GRADIENT_NORM = 1.0
_HEAD_WEIGHT_DECAY = 0.01
_MAX_SKIPPED_STEPS = 10  # in one epoch


class Trainer:
    """Trains one network; ``log_weights`` are logarithms of the weights of positives, *Shape:* ``(n_labels,)``."""

    def __init__(
        self,
        inputs: TrainingInputs,
        rows: Rows,
        validation: Rows | None,
        folder: Path,
        *,
        seed: int,
        n_epochs: int | None = None,
    ) -> None:
        """Make the initial network; ``folder`` gets a checkpoint after each epoch.

        Without ``validation``, which decides when to stop, the last epoch is kept. Without ``n_epochs``, the
        configuration's are trained, over which the schedule is always laid out.
        """
        self.inputs, self.config, self.rows, self.validation = inputs, inputs.config, rows, validation
        self.seed, self.n_epochs = seed, n_epochs or inputs.config.stopping.epochs
        stage = "refit" if validation is None else "first"
        self.checkpoint = Checkpoint(folder / f"{stage}-{inputs.fingerprint(seed, n_epochs)}.safetensors")
        self.network, self.state = initial_network(inputs, rows, seed), TrainingState()
        weights = torch.from_numpy(positive_weights(rows.targets, self.config.loss)).float()
        self.log_weights, self._pos_weight = np.log(weights.double().numpy()), weights.to(self.network.device)
        self._trained = {name: one for name, one in self.network.named_parameters() if one.requires_grad}

    def fit(self) -> None:
        """Train until the last epoch or until patience ends; keep the best weights. May raise a TrainingError."""
        optimiser = _optimiser(self._trained, self.config)
        current = {name: parameter.data for name, parameter in self._trained.items()}
        weights = TrackedWeights(current, self.config.optimiser.ema_decay)
        state = self.state = self.checkpoint.load(weights, optimiser)
        if state.epoch:
            logger.info(f"training resumes after epoch {state.epoch}")
        if from_main_process(state.epoch) != state.epoch:
            raise TrainingError("all processes must see the same checkpoint; put out into a folder that they share")
        n_steps = math.ceil(len(self.rows) / self.config.optimiser.batch_size) * self.config.stopping.epochs
        schedule = _one_cycle(optimiser, n_steps, state.n_steps)
        while not self._is_finished():
            record = {"loss": self._epoch(optimiser, schedule, weights)}
            if self.validation is not None:
                with weights.averaged():
                    record |= from_main_process(self._measure(self.validation))
            state.epoch += 1
            state.history.append({"epoch": state.epoch, **record})
            if self._is_improved():
                state.best_epoch, state.best_value = state.epoch, record.get(self.config.stopping.metric)
                copy_weights(weights.average, weights.best)
            figures = ", ".join(f"{name} {value:.4f}" for name, value in record.items())
            logger.info(f"epoch {state.epoch} of {self.n_epochs}: {figures}, best epoch {state.best_epoch}")
            if process_state().is_main_process:
                self.checkpoint.save(state, weights, optimiser)
        copy_weights(weights.best, current)

    def logits(self, rows: Rows, *, bfloat16: bool | None = None) -> np.ndarray:
        """Score rows, *Shape:* ``(n_rows, n_labels)``; ``bfloat16`` None: as in training."""
        self.network.eval()
        features = feature_function(self.network, self.inputs.bfloat16 if bfloat16 is None else bfloat16)
        n_tokens = self.config.optimiser.micro_batch_tokens
        return forward_batches(lambda batch: self.network.head(features(batch)), rows.inputs, n_tokens)

    def _measure(self, rows: Rows) -> dict[str, float]:
        """Return mean average precision, and macro-F1 at the common threshold that is best for these rows."""
        logits = self.logits(rows)
        decided = logits >= common_threshold(logits, rows.targets)
        return {"map": mean_average_precision(logits, rows.targets), "macro_f1": macro_f1(decided, rows.targets)}

    def _epoch(self, optimiser: AdamW, schedule: LRScheduler, weights: TrackedWeights) -> float:
        """Pass once over the training rows; return the mean loss of an example."""
        self.network.train()
        seed = self.seed * 1_000_003 + self.state.epoch
        torch.manual_seed(seed + process_state().process_index)  # dropout uses the global generator
        generator = torch.Generator().manual_seed(seed)
        lengths = [len(text) for text in self.rows.inputs]
        total, n_skipped = 0.0, 0
        with progress(f"epoch {self.state.epoch + 1}", len(lengths)) as step_done:
            for step in training_steps(lengths, batch_size=self.config.optimiser.batch_size, generator=generator):
                loss = self._step(step, lengths, optimiser)
                n_skipped += not math.isfinite(loss)
                if n_skipped > _MAX_SKIPPED_STEPS:
                    raise TrainingError(
                        f"more than {_MAX_SKIPPED_STEPS} steps had no finite gradient; lower the learning rates"
                    )
                total += loss * len(step) if math.isfinite(loss) else 0.0
                schedule.step()
                self.state.n_steps += 1
                weights.update(self.state.n_steps)
                step_done(len(step))
        return total / len(lengths)

    def _step(self, step: list[int], lengths: list[int], optimiser: AdamW) -> float:
        """Apply the mean gradient of a step's examples, unless it is not finite; return the mean loss."""
        optimiser.zero_grad(set_to_none=True)
        features, loss_value = feature_function(self.network, self.inputs.bfloat16), 0.0
        process, n_tokens = process_state(), self.config.optimiser.micro_batch_tokens
        rows = step[process.process_index :: process.num_processes]  # neighbours are of similar length
        for positions in length_sorted_batches([lengths[row] for row in rows], n_tokens):
            batch = [rows[at] for at in positions]
            inputs = [drop_tokens(self.rows.inputs[row], self.config.token_dropout) for row in batch]
            targets = torch.from_numpy(self.rows.targets[batch]).to(self.network.device)
            cells = binary_cross_entropy_with_logits(
                self.network.head(features(inputs)), targets, pos_weight=self._pos_weight, reduction="none"
            )
            loss = cells.mean(dim=1).sum() / len(step)
            loss.backward()
            loss_value += loss.item()
        parameters = list(self._trained.values())
        loss_value = sum_gradients(loss_value, parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)
        if not torch.isfinite(norm):
            return float("nan")
        optimiser.step()
        return loss_value

    def _is_finished(self) -> bool:
        state = self.state
        n_waited = state.epoch - state.best_epoch
        return state.epoch >= self.n_epochs or (state.best_epoch > 0 and n_waited >= self.config.stopping.patience)

    def _is_improved(self) -> bool:
        """Return whether the last epoch is the best so far; without validation, it always is."""
        state, stopping = self.state, self.config.stopping
        if self.validation is None or state.best_value is None:
            return True
        return state.history[-1][stopping.metric] > state.best_value + stopping.min_improvement


def _optimiser(trained: dict[str, torch.nn.Parameter], config: TrainConfig) -> AdamW:
    """Make AdamW with learning rate and weight decay of each part; biases, the base rates, do not decay."""
    options = config.optimiser
    adapter = (config.lora.lr, 0.0) if config.lora else (options.prompt_lr, options.prompt_weight_decay)
    of_parts = {"head": (options.head_lr, _HEAD_WEIGHT_DECAY), "attention": (options.attention_lr, 0.0)}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in trained.items():
        lr, weight_decay = of_parts.get(name.partition(".")[0], adapter)
        groups.setdefault((lr, 0.0 if name.endswith("bias") else weight_decay), []).append(parameter)
    return AdamW([{"params": group, "lr": lr, "weight_decay": decay} for (lr, decay), group in groups.items()])


def _one_cycle(optimiser: torch.optim.Optimizer, n_steps: int, n_done: int = 0) -> OneCycleLR:
    """Make the schedule of Smith and Topin, "Super-convergence", 2017 (arXiv 1708.07120); ``n_done`` steps are done."""
    return OneCycleLR(
        optimiser,
        max_lr=[group["lr"] for group in optimiser.param_groups],  # a resumed optimiser has its own
        total_steps=n_steps + 1,
        # torch divides by zero where the rise ends with the first step.
        pct_start=_WARMUP if _WARMUP * (n_steps + 1) > 1 else 0.0,
        cycle_momentum=False,
        last_epoch=n_done - 1,
    )
