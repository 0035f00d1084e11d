"""``ptec search``: settings of a training, chosen on validation by Optuna.

A trial is the first training of ``ptec train``: it learns from train and is measured on validation. Each suggestion
depends on the seed and the earlier trials only, so a killed search ends like an undisturbed one.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator

from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.log import logger
from ptec_udf.section import Section, messages_of, refuse
from training.config import Recipe, Seed, TrainConfig
from training.search_space import PAPER, Range

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

RESULTS, BEST = "results.json", "best.yaml"
_STUDY, _SHARED, _TRIAL = "study.db", "shared", "trial"
_HEADER = "# Settings that ptec search chose on validation. Use: ptec train --config {file}\n\n"
# A trial is the first training of one network, measured by its logits.
_NOT_IN_A_TRIAL = {"ensemble_size", "tfidf", "calibrator", "thresholds", "stopping.refit"}
_DEFINES_THE_MEASURE = {"stopping.validation_share", "stopping.metric"}


class SearchConfig(Section):
    """What is tried, on which rows, and how often."""

    extract: str = Field(min_length=1, description="folder of ptec extract; dev and test are not read")
    out: str = Field(min_length=1, description="folder of the study and its results; existing trials are kept")
    recipe: Recipe = Recipe()
    space: dict[str, Range] = Field(
        default_factory=lambda: dict(PAPER), min_length=1, description="settings of the recipe to choose"
    )
    trials: int = Field(40, ge=1, description="trainings with different settings")
    random_trials: int = Field(25, ge=1, description="trials that are drawn at random before the others are guided")
    confirmed: int = Field(3, ge=1, description="number of the best settings that are trained with the other seeds too")
    seeds: list[Seed] = Field([42, 43, 44], min_length=1, description="the first is that of all trials")

    @model_validator(mode="after")
    def _space_fits_the_recipe(self) -> SearchConfig:
        refuse(self._errors())
        return self

    def _errors(self) -> Iterator[str]:
        for setting, allowed in self.space.items():
            section = setting.partition(".")[0]
            if {setting, section} & _NOT_IN_A_TRIAL:
                yield f"space.{setting}: must not be searched, trials do not depend on it"
            elif setting in _DEFINES_THE_MEASURE:
                yield f"space.{setting}: must not be searched, trials would not be measured alike"
            elif section == "lora" and self.recipe.lora is None:
                yield f"space.{setting}: must not be searched where recipe.{section} is null; set it, e.g. to {{}}"
            elif not self.recipe.has_prompt and setting.startswith(("prompt.", "optimiser.prompt_")):
                yield f"space.{setting}: must not be searched where no prompt is trained (lora, or prompt.kind none)"
            for value in allowed.examples:
                for message in _messages(self.recipe, setting, value):
                    yield f"space.{setting}: {message}, was: {value!r}"
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds must differ, were: {self.seeds}"


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's values with some set, by dotted key."""
    values = recipe.model_dump()
    for dotted, value in settings.items():
        *parents, last = dotted.split(".")
        section = values
        for name in parents:
            section[name] = section.get(name) or {}
            section = section[name]
        section[last] = value
    return values


def _messages(recipe: Recipe, setting: str, value: Any) -> list[str]:
    try:
        Recipe.model_validate(with_settings(recipe, {setting: value}))
    except ValidationError as error:
        return [message for fault in error.errors() for message in messages_of(fault)]
    return []


def search(config: SearchConfig) -> dict[str, Any]:
    """Try settings, confirm the best with other seeds, and write a configuration for ``ptec train``.

    Returns:
        ``best``: settings of the winner, ``value``: its metric on validation as a mean over seeds, ``trials``: their
        number, ``config``: the file for ``ptec train``.

    Raises:
        ConfigError: for a folder that is in use or belongs to another search, or settings that suit no backbone.
        SourceError: for an extract that cannot be used.
        BackboneError: for a backbone that is missing.
        TrainingError: when no trial is worth more than 0.
    """
    import optuna
    from optuna.storages import RetryFailedTrialCallback
    from optuna.trial import TrialState

    from training.fit.inputs import load_inputs
    from training.folders import check_writable, lock_folder

    folder = Path(config.out)
    check_writable(folder)
    load_inputs(_train_config(config, {}, config.seeds[0]), ())  # a recipe that suits no backbone is refused at once
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with lock_folder(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = f"sqlite:///{folder / _STUDY}"
        study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
        _check_same(study, config)
        for killed in study.get_trials(states=(TrialState.RUNNING,)):  # this process is alone in the folder
            study.tell(killed.number, state=TrialState.FAIL)
            RetryFailedTrialCallback()(study, killed)
        while (n_done := len(study.get_trials(states=(TrialState.COMPLETE,)))) < config.trials:
            # A seed of its own for each trial: a search that continues draws what an undisturbed one does.
            study.sampler = optuna.samplers.TPESampler(
                seed=(config.seeds[0] + n_done) % 2**32, n_startup_trials=config.random_trials
            )
            logger.info(f"trial {n_done + 1} of {config.trials}")
            study.optimize(lambda trial: _value(trial, config), n_trials=1)
        result = _confirm(study, config)
        for left in (_SHARED, _TRIAL):
            shutil.rmtree(folder / left, ignore_errors=True)
        return result


def _check_same(study: Study, config: SearchConfig) -> None:
    """Refuse to continue another search; more trials or other seeds to confirm with do not make another one."""
    from ptec_udf.model.backbone import resolve
    from training.data.folder import read_extract_record
    from training.packages import packages

    facts = config.model_dump(mode="json", exclude={"extract", "out", "trials", "confirmed", "seeds"})
    facts["space"] = list(facts["space"].items())  # the order decides what is drawn
    backbones = {config.recipe.backbone, *((config.space.get("backbone") or Range(choices=["", ""])).choices or [])}
    facts["backbones"] = {name: resolve(name).content_hash() for name in sorted(backbones - {""})}
    facts |= {"extract": read_extract_record(config.extract)["fingerprint"], "seed": config.seeds[0]}
    whole = json.dumps([facts, packages()], sort_keys=True)
    if study.user_attrs.get("search", whole) != whole:
        raise ConfigError(
            "out must contain trials of the same extract, recipe, backbones, space, first seed, random_trials and "
            f"package versions, {config.out!r} contains others; choose another"
        )
    study.set_user_attr("search", whole)


def _train_config(config: SearchConfig, settings: Mapping[str, Any], seed: int) -> TrainConfig:
    values = with_settings(config.recipe, {**settings, "stopping.refit": False})
    values |= {"calibrator": "platt", "thresholds": "common", "tfidf": None}
    out = str(Path(config.out) / _TRIAL)
    return TrainConfig(**values, extract=config.extract, out=out, overwrite=True, seed=seed)


def _train_once(config: SearchConfig, settings: Mapping[str, Any], seed: int) -> float:
    """Train with some settings; return the metric on validation.

    Raises:
        ConfigError, ValidationError: for settings that do not go together, or not with the backbone.
        TrainingError: for a training that diverges.
    """
    from training.train import train

    made = train(_train_config(config, settings, seed), evaluated=(), state_folder=Path(config.out) / _SHARED)
    return float(made["metrics"]["validation"][config.recipe.stopping.metric] or 0.0)


def _value(trial: Trial, config: SearchConfig) -> float:
    """Train with suggested settings; settings that fail are worth 0, so that the sampler learns to avoid them."""
    settings = {name: allowed.suggest(trial, name) for name, allowed in config.space.items()}
    try:
        value = _train_once(config, settings, config.seeds[0])
    except (ValidationError, ConfigError, TrainingError) as error:
        reasons = getattr(error, "errors", None)
        trial.set_user_attr("errors", reasons if isinstance(reasons, list) else [str(error)])
        logger.warning(f"trial counted as 0: {error}")
        return 0.0
    logger.info(f"{config.recipe.stopping.metric} on validation {value:.4f}")
    return value


def _confirm(study: Study, config: SearchConfig) -> dict[str, Any]:
    """Train the best settings with the other seeds, and write the winner.

    The value of the best trial is the best of many, so it is optimistic: the other seeds decide. Values are kept in the
    study, so that a killed confirmation continues.
    """
    import yaml
    from optuna.trial import TrialState

    from training.data.folder import read_extract_record

    folder, metric = Path(config.out), config.recipe.stopping.metric
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    ranked = sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))
    different: dict[str, FrozenTrial] = {}
    for trial in ranked:
        different.setdefault(json.dumps(trial.params, sort_keys=True), trial)
    best = list(different.values())[: config.confirmed]
    if not best[0].value:
        reasons = sorted({reason for trial in best for reason in trial.user_attrs.get("errors", [])})
        raise TrainingError(
            f"no trial was worth more than 0: {'; '.join(reasons) or 'validation measured 0'}; change the space"
        )
    worth = {}
    for trial in best:
        values = []
        for seed in config.seeds[1:]:
            name = f"trial {trial.number}, seed {seed}"
            if name not in study.user_attrs:
                logger.info(f"confirmation of {name}")
                study.set_user_attr(name, _train_once(config, trial.params, seed))
            values.append(study.user_attrs[name])
        worth[trial.number] = sum(values) / len(values) if values else float(trial.value or 0.0)
    winner = max(best, key=lambda trial: worth[trial.number])
    rows = [{"value": one.value, "settings": one.params, "mean_of_seeds": worth.get(one.number)} for one in complete]
    results = {"extract": read_extract_record(config.extract)["fingerprint"], "metric": metric, "trials": rows}
    (folder / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    settings = with_settings(config.recipe, winner.params) | {"seed": config.seeds[0]}
    values_of_train = {"extract": config.extract, "out": str(folder / "artifact"), **settings}
    text = _HEADER.format(file=folder / BEST) + yaml.safe_dump({"train": values_of_train}, sort_keys=False)
    (folder / BEST).write_text(text, encoding="utf-8")
    _plot(study, folder)
    value = round(worth[winner.number], 6)
    return {"best": winner.params, "value": value, "trials": len(complete), "config": str(folder / BEST)}


def _plot(study: Study, folder: Path) -> None:
    """Draw the course of the study, each setting against the value, and how much each setting matters."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    pictures: dict[str, Any] = {"history": plots.plot_optimization_history, "settings": plots.plot_slice}
    if len(study.trials) > 1:
        pictures["importance"] = plots.plot_param_importances
    for name, picture in pictures.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of studies too small for a stable importance
            axes = picture(study)
        figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
        figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
