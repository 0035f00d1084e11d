"""The main line of ``ptec search``: trials on tune, the best ones with more seeds, a configuration in the end."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.progress import say
from training.args import TrainConfig
from training.below import below_prompt
from training.checkpoint import Checkpoint, Course
from training.flops import flop_of_training
from training.folders import alone, check_writable
from training.prepare import prepare
from training.search.config import Range, SearchConfig, with_settings
from training.search.results import confirmations, in_full, write_results

_VALUED = (TrialState.COMPLETE, TrialState.PRUNED)
_BELOW = "below"  # what the layers below the prompt make of the rows, which all trials share


def search(config: SearchConfig) -> dict[str, Any]:
    """Try settings, confirm the best with more seeds, and write a configuration for ``ptec train``.

    A trial is the first training of ``ptec train``: it learns from train and is measured on tune. Every suggestion
    depends on the seed and on the trials before it alone, so a search that was killed ends as if it had not been.

    Returns:
        ``best``: settings of the winner, ``value``: its metric on tune as a mean over seeds, ``trials``: their
        number, ``config``: the file for ``ptec train``.

    Raises:
        ConfigError: for a folder that is in use or belongs to another search, or settings that suit no backbone.
        SourceError: for an extract that cannot be used.
        BackboneError: for a backbone that is missing.
    """
    folder = Path(config.out)
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with alone(folder):
        study = optuna.create_study(
            storage=f"sqlite:///{folder / 'study.db'}",
            study_name="search",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        )
        _check_same(study, config)
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)  # its process was killed
        while len(done := _trials(study)) < config.trials:
            _run_one(study, config, f"trial {len(done) + 1} of {config.trials}", seed=config.seeds[0] + len(done))
        while missing := confirmations(study, config):
            number, seed = missing[0]
            if not study.get_trials(states=(TrialState.WAITING,)):
                study.enqueue_trial(study.trials[number].params, user_attrs={"confirms": number, "seed": seed})
            _run_one(study, config, f"{len(missing)} of the best with other seeds left", seed=seed)
        shutil.rmtree(folder / _BELOW, ignore_errors=True)
        return write_results(study, config, folder)


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials with a value that are no confirmations."""
    return [trial for trial in study.get_trials(states=_VALUED) if "confirms" not in trial.user_attrs]


def _run_one(study: optuna.Study, config: SearchConfig, what: str, seed: int) -> None:
    """Let the sampler, seeded anew so that a killed search draws the same, suggest settings, and train."""
    study.sampler = optuna.samplers.TPESampler(
        seed=seed % 2**32, n_startup_trials=config.random_trials, constant_liar=False, multivariate=False
    )
    say(f"{what}{_best_so_far(study)}")
    study.optimize(lambda trial: _value(trial, config, len(_trials(study))), n_trials=1)


def _value(trial: Trial, config: SearchConfig, n_before: int) -> float:
    """Train once; return the metric on tune of the best epoch."""
    confirms = "confirms" in trial.user_attrs
    only_first = n_before < config.first_alone and not confirms
    names = list(config.space)[:1] if only_first else list(config.space)
    if confirms:  # a trial of the first ones varied one setting only
        names = list(trial.study.trials[trial.user_attrs["confirms"]].params)
    settings = {name: _suggest(trial, name, config.space[name]) for name in names}
    seed = trial.user_attrs.get("seed", config.seeds[0])
    train_config = TrainConfig(**with_settings(config.recipe, settings), extract=config.extract, out="-", seed=seed)
    prepared = prepare(train_config, ("train", "tune"))
    place = Path(config.out) / "trials" / prepared.fingerprint[:16]
    started, below = time.monotonic(), Path(config.out) / _BELOW
    train, tune = (below_prompt(prepared, prepared.rows[split], below)[0] for split in ("train", "tune"))
    epochs = train_config.stopping.epochs
    trainer = prepared.start.trainer(train, tune, epochs, Checkpoint(place, prepared.fingerprint))
    reported = list[float]()

    def after_epoch(course: Course) -> None:
        for epoch in course.history[len(reported) :]:  # more than one where a killed trial goes on
            reported.append(epoch["epoch"])
            trial.report(epoch[train_config.stopping.metric], int(epoch["epoch"]))
        if not confirms and trial.should_prune():
            raise optuna.TrialPruned

    try:
        course = trainer.fit(after_epoch)
        value, best_epoch = course.best_value or 0.0, course.best_epoch
    except TrainingError as error:
        say(f"counted as 0: {error}")
        value, best_epoch = 0.0, 0
    except optuna.TrialPruned:
        _close(trial, place, started, flop_of_training(trainer, len(reported)))
        raise
    _close(trial, place, started, flop_of_training(trainer, len(reported)))
    trial.set_user_attr("best_epoch", best_epoch)
    return value


def _close(trial: Trial, place: Path, started: float, flop: float) -> None:
    """Remove a trial's state and note what it took."""
    shutil.rmtree(place, ignore_errors=True)
    trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
    trial.set_user_attr("flop", flop)


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


def _best_so_far(study: optuna.Study) -> str:
    """Say how good the best trial is."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    return f", best so far {max(trial.value or 0.0 for trial in complete):.4f}" if complete else ""


def _check_same(study: optuna.Study, config: SearchConfig) -> None:
    """Refuse to go on with the trials of another search; more trials or other seeds are no other search."""
    facts = in_full(config)
    if study.user_attrs.get("search", facts) != facts:
        raise ConfigError(
            f"out must hold trials of the same extract, recipe, space, first seed, first_alone and random_trials, "
            f"{config.out!r} holds others; choose another"
        )
    study.set_user_attr("search", facts)
