"""The main line of ``ptec search``: trials on validation, the best ones with more seeds, a configuration in the end."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ptec_udf.errors import ConfigError, collect_errors
from ptec_udf.log import logger
from ptec_udf.model.backbone import resolve
from training.fit.inputs import prepare
from training.folders import LOCK, alone, check_writable
from training.search.config import SearchConfig
from training.search.results import confirmations, in_full, write_results
from training.search.trial import BELOW, train_config, value_of

_STUDY = "study.db"
_VALUED = (TrialState.COMPLETE, TrialState.PRUNED)


def search(config: SearchConfig) -> dict[str, Any]:
    """Try settings, confirm the best with more seeds, and write a configuration for ``ptec train``.

    A trial is the first training of ``ptec train``: it learns from train, validation measures it. Every suggestion
    depends on the seed and on the trials before it alone, so a search that was killed ends as if it had not been.

    Returns:
        ``best``: settings of the winner, ``value``: its metric on validation as a mean over seeds, ``trials``: their
        number, ``config``: the file for ``ptec train``.

    Raises:
        ConfigError: for a folder that is in use or belongs to another search, or settings that suit no backbone.
        SourceError: for an extract that cannot be used.
        BackboneError: for a backbone that is missing.
        TrainingError: when no trial was worth more than 0.
    """
    folder = Path(config.out)
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    prepare(train_config(config, {}), ())  # a recipe that suits no backbone is refused; only what is tried may fail
    _check_backbones(config)
    _check_folder(folder)
    with alone(folder):
        _check_study(folder / _STUDY)
        study = optuna.create_study(
            storage=f"sqlite:///{folder / _STUDY}",
            study_name="search",
            direction="maximize",
            load_if_exists=True,
            pruner=_pruner(config),
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
        shutil.rmtree(folder / BELOW, ignore_errors=True)
        return write_results(study, config, folder)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a search."""
    if not (folder / _STUDY).is_file() and any(other.name != LOCK for other in folder.iterdir()):
        raise ConfigError(f"out must be absent, empty or hold a search, {str(folder)!r} holds other files")


def _check_study(file: Path) -> None:
    """Refuse a study that is damaged; only for who is alone in its folder, since one in use looks alike."""
    if not file.is_file():
        return
    try:
        with closing(sqlite3.connect(file)) as study:
            is_whole = study.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        is_whole = False
    if not is_whole:
        raise ConfigError(f"{str(file)!r} cannot be read; restore it, or remove it to begin the search again")


def _check_backbones(config: SearchConfig) -> None:
    """Refuse a search that could choose a backbone which is not here; it would end in each rerun at the same trial."""
    faults: list[str] = []
    for name in config.choices("backbone"):
        with collect_errors(faults, "space.backbone: "):
            resolve(name).content_hash()
    if faults:
        raise ConfigError(faults)


def _pruner(config: SearchConfig) -> optuna.pruners.BasePruner:
    """End trials that stay below the median, unless they differ in length: a long one is slower at the same epoch."""
    if "stopping.epochs" in config.space:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials with a value that are no confirmations."""
    return [trial for trial in study.get_trials(states=_VALUED) if "confirms" not in trial.user_attrs]


def _run_one(study: optuna.Study, config: SearchConfig, what: str, seed: int) -> None:
    """Let the sampler, seeded anew so that a killed search draws the same, suggest settings, and train."""
    study.sampler = optuna.samplers.TPESampler(
        seed=seed % 2**32, n_startup_trials=config.random_trials, constant_liar=False, multivariate=False
    )
    logger.info(f"{what}{_best_so_far(study, config.recipe.stopping.metric)}")
    study.optimize(lambda trial: value_of(trial, config, len(_trials(study))), n_trials=1)


def _best_so_far(study: optuna.Study, metric: str) -> str:
    """Say how good the best trial is."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    return (
        f", best so far {max(trial.value or 0.0 for trial in complete):.4f} {metric} on validation" if complete else ""
    )


def _check_same(study: optuna.Study, config: SearchConfig) -> None:
    """Refuse to go on with the trials of another search; more trials or other seeds are no other search."""
    facts = in_full(config)
    if study.user_attrs.get("search", facts) != facts:
        raise ConfigError(
            f"out must hold trials of the same extract, recipe, backbones, space, first seed, first_alone and "
            f"random_trials, by a release that cuts texts alike, {config.out!r} holds others; choose another"
        )
    study.set_user_attr("search", facts)
