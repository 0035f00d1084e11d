"""One trial of a search: settings are suggested, a training measures them on validation."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial
from pydantic import ValidationError

from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.log import logger
from ptec_udf.section import messages_of
from training.config import TrainConfig
from training.data.dataset import Rows
from training.fit.checkpoint import Checkpoint, Course
from training.fit.inputs import Prepared, prepare
from training.fit.layer_cache import below_prompt
from training.fit.trainer import Trainer
from training.flops import flop_below, flop_of_training
from training.search.config import Range, SearchConfig, with_settings

BELOW = "below"  # what the layers below the prompt make of the rows, which all trials share


def value_of(trial: Trial, config: SearchConfig, n_before: int) -> float:
    """Train once with suggested settings; return the metric on validation of the best epoch.

    Settings that do not go together, or with the backbone, are worth 0, as is a training that diverges: the search then
    learns to leave them alone.

    Raises:
        TrialPruned: when the training was ended early.
    """
    confirms = "confirms" in trial.user_attrs
    only_first = n_before < config.first_alone and not confirms
    names = list(config.space)[:1] if only_first else list(config.space)
    if confirms:  # a trial of the first ones varied one setting only
        names = list(trial.study.trials[trial.user_attrs["confirms"]].params)
    settings = {name: _suggest(trial, name, config.space[name]) for name in names}
    try:
        prepared = prepare(train_config(config, settings, trial.user_attrs.get("seed")), ("train", "validation"))
    except (ValidationError, ConfigError) as error:
        if isinstance(error, ConfigError):
            reasons = error.errors
        else:
            reasons = [message for fault in error.errors() for message in messages_of(fault)]
        logger.info(f"counted as 0: {'; '.join(reasons)}")
        for name, nothing in {"seconds": 0.0, "flop": 0.0, "best_epoch": 0, "faults": reasons}.items():
            trial.set_user_attr(name, nothing)
        return 0.0
    return _Training(trial, prepared, Path(config.out), may_be_pruned=not confirms).value()


def train_config(config: SearchConfig, settings: dict[str, Any], seed: int | None = None) -> TrainConfig:
    """Return the configuration of a trial's training."""
    values = with_settings(config.recipe, settings)
    return TrainConfig(**values, extract=config.extract, out="-", seed=config.seeds[0] if seed is None else seed)


class _Training:
    """The training of a trial, which goes on where a killed one was."""

    def __init__(self, trial: Trial, prepared: Prepared, folder: Path, *, may_be_pruned: bool) -> None:
        self.trial, self.prepared, self.folder, self.may_be_pruned = trial, prepared, folder, may_be_pruned
        self.fingerprint = prepared.fingerprints[0]  # a trial trains the first member alone
        self.place = folder / "trials" / self.fingerprint[:16]
        self.reported = Course()

    def value(self) -> float:
        """Train, note what it took, and return the value."""
        below = self.folder / BELOW
        (train, seconds), (validation, more) = (
            below_prompt(self.prepared, self.prepared.rows[split], below) for split in ("train", "validation")
        )
        start = self.prepared.start
        checkpoint = Checkpoint(self.place, f"{self.fingerprint}-{start.arithmetic}")
        trainer = start.trainer(train, validation, start.config.stopping.epochs, checkpoint)
        course = Course()
        try:
            course = trainer.fit(self._after_epoch)
            self._after_epoch(course)  # what a killed trial had done, and not reported
        except TrainingError as error:
            logger.info(f"counted as 0: {error}")
            self.trial.set_user_attr("faults", [str(error)])
            course = Course()
        except optuna.TrialPruned:
            self._end(trainer, [train, validation], seconds + more)
            raise
        self._end(trainer, [train, validation], seconds + more)
        self.trial.set_user_attr("best_epoch", course.best_epoch)
        return course.best_value or 0.0

    def _after_epoch(self, course: Course) -> None:
        """Report epochs that are not reported yet; end the trial where it lies below the others."""
        new = course.history[self.reported.epoch :]
        self.reported = replace(course)
        for epoch in new:
            self.trial.report(epoch[self.prepared.start.config.stopping.metric], int(epoch["epoch"]))
        if new and self.may_be_pruned and self.trial.should_prune():
            raise optuna.TrialPruned

    def _end(self, trainer: Trainer, rows: list[Rows], seconds_below: float) -> None:
        """Note seconds and operations; layers below a prompt count for the first trial that needed them."""
        shutil.rmtree(self.place, ignore_errors=True)
        config, cut = self.prepared.start.config, self.prepared.start.encoder.cut
        n_upper = config.adapter.upper_layers
        below = [config.backbone, config.max_tokens, cut, config.dtype, config.optimiser.micro_batch_tokens, n_upper]
        others = [other.user_attrs for other in self.trial.study.trials if other.number != self.trial.number]
        is_first = n_upper is not None and below not in [one.get("layers_below") for one in others if "flop" in one]
        of_below = flop_below(trainer.network, n_upper, rows) if is_first else 0.0
        self.trial.set_user_attr("layers_below", below)
        seconds = self.reported.seconds + (seconds_below if is_first else 0.0)
        self.trial.set_user_attr("seconds", round(seconds, 1))
        self.trial.set_user_attr("flop", flop_of_training(trainer, self.reported.epoch) + of_below)


def _suggest(trial: Trial, name: str, allowed: Range) -> Any:
    """Let the sampler choose a value."""
    if allowed.choices is not None:
        return trial.suggest_categorical(name, allowed.choices)
    low, high = allowed.low, allowed.high
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=allowed.log)
    assert low is not None
    assert high is not None
    return trial.suggest_float(name, low, high, log=allowed.log)
