"""The training loop: prompt (or LoRA) and head jointly, the backbone's own weights frozen.

Method: Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075), section 3. Other than in the published code,
parameters stay in float32, and the best epoch's weights are kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from ptec_udf.errors import TrainingError
from ptec_udf.log import logger, progress
from ptec_udf.model.network import PtecNetwork
from training.calibrate.thresholds import common_threshold
from training.config import TrainConfig
from training.data.dataset import Rows, drop_tokens, micro_batches, training_steps
from training.evaluate.metrics import macro_f1, mean_average_precision
from training.fit.average import WeightAverage, copy_weights
from training.fit.checkpoint import Checkpoint, TrainingState
from training.fit.distributed import (
    broadcast_parameters,
    check_equal,
    gather_rows,
    own_share,
    process_state,
    sum_gradients,
)
from training.fit.forward import feature_function, forward_batches
from training.fit.inputs import TrainingInputs
from training.fit.loss import loss_sum, positive_weights
from training.fit.network import initial_network

_MAX_SKIPPED_STEPS = 10


class Trainer:
    """Trains one network.

    Attributes:
        network: with a ``StandardisedHead``.
        rows: the training rows.
        log_weights: logarithms of the weights of positives, by which logits are shifted, *Shape:* ``(n_labels,)``.
    """

    def __init__(
        self,
        inputs: TrainingInputs,
        rows: Rows,
        validation: Rows | None,
        checkpoint: Checkpoint,
        *,
        seed: int | None = None,
        n_epochs: int | None = None,
    ) -> None:
        """Make the initial network.

        Args:
            inputs: of the run.
            rows: to learn from.
            validation: rows that decide when to stop; None: the last epoch is kept.
            checkpoint: where the state is saved after each epoch.
            seed: decides initial values, the order of rows and what is dropped; None: the configuration's.
            n_epochs: number of epochs; None: the configuration's, over which the schedule is always laid out.
        """
        self.inputs, self.config, self.rows, self.validation = inputs, inputs.config, rows, validation
        self.checkpoint, self.seed = checkpoint, inputs.config.seed if seed is None else seed
        self.n_epochs = n_epochs or inputs.config.stopping.epochs
        self.network = initial_network(inputs, rows, self.seed)
        self.log_weights = np.log(self._weights(rows.targets).double().cpu().numpy())
        self._label_weights = self._weights(rows.targets)
        self._parameters = [parameter for _, parameter in trained_parameters(self.network)]

    def fit(self) -> TrainingState:
        """Train until the last epoch or until patience ends; leave the best epoch's weights in the network.

        Raises:
            TrainingError: if too many steps have no finite gradient.
        """
        current = {name: parameter.data for name, parameter in trained_parameters(self.network)}
        optimiser, average = (
            _optimiser(self.network, self.config),
            WeightAverage(current, self.config.optimiser.ema_decay),
        )
        state, best = TrainingState(), {}
        if loaded := self.checkpoint.load(optimiser):
            state, weights = loaded
            copy_weights(weights["current"], current)
            copy_weights(weights["average"], average.weights)
            best = weights["best"]
            logger.info(f"training resumes after epoch {state.epoch}")
        if not check_equal(state.n_steps):
            raise TrainingError("all processes must see the same checkpoint; put out into a folder that they share")
        n_steps = math.ceil(len(self.rows) / self.config.optimiser.batch_size) * self.config.stopping.epochs
        schedule = one_cycle(optimiser, n_steps, self.config.optimiser.warmup, state.n_steps - 1)
        while not self._is_finished(state):
            started = time.monotonic()
            broadcast_parameters(self._parameters)
            loss = self._epoch(state, optimiser, schedule, average)
            values: dict[str, float] = {}
            if self.validation is not None:
                with average.applied():
                    values = self.measure(self.validation)
            state.seconds += time.monotonic() - started
            state.history.append({"epoch": state.epoch, "loss": loss, **values, "seconds": state.seconds})
            if self._is_improved(state):
                state.best_epoch, state.best_value = state.epoch, values.get(self.config.stopping.metric)
                best = {name: value.clone() for name, value in average.weights.items()}
            logger.info(self._describe(state))
            if process_state().is_main_process:
                self.checkpoint.save(state, {"current": current, "average": average.weights, "best": best}, optimiser)
        copy_weights(best, current)
        return state

    def measure(self, rows: Rows) -> dict[str, float]:
        """Return mean average precision, and macro-F1 at the common threshold that is best for these rows."""
        logits = self.logits(rows)
        best = logits >= common_threshold(logits, rows.targets)
        return {"map": mean_average_precision(logits, rows.targets), "macro_f1": macro_f1(best, rows.targets)}

    def logits(self, rows: Rows, *, bfloat16: bool | None = None) -> np.ndarray:
        """Score rows, *Shape:* ``(n_rows, n_labels)``; ``bfloat16`` None: as in training."""
        self.network.eval()
        features = feature_function(self.network, self.inputs.bfloat16 if bfloat16 is None else bfloat16)
        n_tokens = self.config.optimiser.micro_batch_tokens
        own = forward_batches(lambda inputs: self.network.head(features(inputs)), own_share(rows.inputs), n_tokens)
        return gather_rows(own, len(rows))

    def _epoch(self, state: TrainingState, optimiser: AdamW, schedule: LRScheduler, average: WeightAverage) -> float:
        """Pass once over the training rows; return the mean loss of an example."""
        self.network.train()
        seed = self.seed * 1_000_003 + state.epoch
        torch.manual_seed(seed + process_state().process_index)  # what is dropped comes from the global generator
        generator = torch.Generator().manual_seed(seed)
        lengths = [len(text) for text in self.rows.inputs]
        total, n_skipped = 0.0, 0
        with progress(f"epoch {state.epoch + 1}", len(lengths)) as step_done:
            for step in training_steps(lengths, batch_size=self.config.optimiser.batch_size, generator=generator):
                loss = self._step(step, lengths, optimiser)
                n_skipped += not math.isfinite(loss)
                if n_skipped > _MAX_SKIPPED_STEPS:
                    raise TrainingError(
                        f"more than {_MAX_SKIPPED_STEPS} steps had no finite gradient; lower the learning rates"
                    )
                total += loss * len(step) if math.isfinite(loss) else 0.0
                schedule.step()
                state.n_steps += 1
                average.update(state.n_steps)
                step_done(len(step))
        state.epoch += 1
        return total / len(lengths)

    def _step(self, step: list[int], lengths: list[int], optimiser: torch.optim.Optimizer) -> float:
        """Apply the mean gradient of a step's examples, unless it is not finite; return the mean loss."""
        optimiser.zero_grad(set_to_none=True)
        features, loss_value = feature_function(self.network, self.inputs.bfloat16), 0.0
        for batch in micro_batches(own_share(step), lengths, self.config.optimiser.micro_batch_tokens):
            inputs = [drop_tokens(self.rows.inputs[row], self.config.token_dropout) for row in batch]
            targets = torch.from_numpy(self.rows.targets[batch]).to(self.network.device)
            loss = loss_sum(self.network.head(features(inputs)), targets, self._label_weights) / len(step)
            loss.backward()
            loss_value += loss.item()
        loss_value = sum_gradients(loss_value, self._parameters)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.config.optimiser.max_grad_norm)
        if not torch.isfinite(norm):
            return float("nan")
        optimiser.step()
        return loss_value

    def _weights(self, targets: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(positive_weights(targets, self.config.loss)).float().to(self.network.device)

    def _is_finished(self, state: TrainingState) -> bool:
        n_waited = state.epoch - state.best_epoch
        return state.epoch >= self.n_epochs or (state.best_epoch > 0 and n_waited >= self.config.stopping.patience)

    def _is_improved(self, state: TrainingState) -> bool:
        """Tell whether the last epoch is the best so far; without validation, it always is."""
        stopping = self.config.stopping
        if self.validation is None or state.best_value is None:
            return True
        return state.history[-1][stopping.metric] > state.best_value + stopping.min_improvement

    def _describe(self, state: TrainingState) -> str:
        last = state.history[-1]
        line = f"epoch {state.epoch} of {self.n_epochs}: loss {last['loss']:.4f}"
        if self.validation is not None:
            line += f", validation mAP {last['map']:.4f}, F1 {last['macro_f1']:.4f}, best epoch {state.best_epoch}"
        return f"{line}, {state.seconds:.0f} s in total"


def trained_parameters(network: PtecNetwork) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield prompt, or LoRA, and head by name; the backbone's own parameters are frozen."""
    return ((name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad)


def _optimiser(network: PtecNetwork, config: TrainConfig) -> AdamW:
    """Make AdamW with learning rate and weight decay of each part; biases, the base rates, do not decay."""
    options = config.optimiser
    adapter = (options.prompt_lr, options.prompt_weight_decay)
    if config.lora is not None:
        adapter = (config.lora.lr, config.lora.weight_decay)
    of_parts = {"head": (options.head_lr, options.head_weight_decay), "attention": (options.attention_lr, 0.0)}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in trained_parameters(network):
        lr, weight_decay = of_parts.get(name.partition(".")[0], adapter)
        groups.setdefault((lr, 0.0 if name.endswith("bias") else weight_decay), []).append(parameter)
    return AdamW([{"params": group, "lr": lr, "weight_decay": decay} for (lr, decay), group in groups.items()])


def one_cycle(optimiser: torch.optim.Optimizer, n_steps: int, warmup: float, last_step: int) -> OneCycleLR:
    """Make learning rates rise for a share of ``n_steps`` and fall to nearly 0.

    Smith and Topin, "Super-convergence", 2017 (arXiv 1708.07120).

    Args:
        optimiser: with the highest learning rates.
        n_steps: of the whole training.
        warmup: the share.
        last_step: index of the last step that was done; -1: none.
    """
    return OneCycleLR(
        optimiser,
        max_lr=[group["lr"] for group in optimiser.param_groups],  # a resumed optimiser has its own
        total_steps=n_steps + 1,
        # torch divides by zero where the rise ends with the first step.
        pct_start=warmup if warmup * (n_steps + 1) > 1 else 0.0,
        cycle_momentum=False,
        last_epoch=last_step,
    )
