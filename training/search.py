"""``ptec search``: settings of a training, chosen on validation by Optuna.

A trial is the first training of ``ptec train``: it learns from train and is measured on validation. Each suggestion
depends on the seed and the earlier trials only, so a killed search ends like an undisturbed one. ``study.db`` is
Optuna's own storage: ``optuna-dashboard sqlite:///OUT/study.db`` shows the trials.
"""

from __future__ import annotations

import hashlib
import json
import shutil
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
    from optuna import Trial

BEST = "best.yaml"
_STUDY, _SHARED, _TRIAL = "study.db", "shared", "trial"
_HEADER = "# Settings that ptec search chose on validation. Use: ptec train --config {file}\n\n"
# A trial is the first training of one network, measured by its logits.
_NOT_IN_A_TRIAL = {"ensemble_size", "tfidf", "calibrator", "thresholds", "stopping.refit"}
_DEFINES_THE_MEASURE = {"stopping.validation_share", "stopping.metric"}


class SearchConfig(Section):
    """The settings to try, and the rows and number of trials."""

    extract: str = Field(min_length=1, description="folder of ptec extract; dev and test are not read")
    out: str = Field(min_length=1, description="folder of the study and its results; existing trials are kept")
    recipe: Recipe = Recipe()
    space: dict[str, Range] = Field(
        default_factory=lambda: dict(PAPER), min_length=1, description="settings of the recipe to choose"
    )
    trials: int = Field(40, ge=1, description="trainings with different settings")
    seed: Seed = Field(42, description="seed of all trainings and of the suggestions")

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
                yield f"space.{setting}: must not be searched where recipe.lora is null; set it, e.g. to {{}}"
            elif not self.recipe.has_prompt and setting.startswith(("prompt.", "optimiser.prompt_")):
                yield f"space.{setting}: must not be searched where no prompt is trained (lora, or prompt.kind none)"
            for value in allowed.examples:
                try:
                    Recipe.model_validate(with_settings(self.recipe, {setting: value}))
                except ValidationError as error:
                    for message in (message for one in error.errors() for message in messages_of(one)):
                        yield f"space.{setting}: {message}, was: {value!r}"


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


def search(config: SearchConfig) -> dict[str, Any]:
    """Try settings, and write the best as a configuration for ``ptec train``.

    Returns:
        ``best``: settings of the best trial, ``value``: its metric on validation (optimistic, as the best of many),
        ``trials``: their number, ``config``: the file for ``ptec train``.

    Raises:
        ConfigError: for a folder that is in use, or settings that suit no backbone.
        SourceError: for an extract that cannot be used.
        BackboneError: for a backbone that is missing.
        TrainingError: when no trial is worth more than 0.
    """
    import optuna
    from optuna.trial import TrialState

    from training.fit.inputs import load_inputs
    from training.folders import check_writable, lock_folder

    folder = Path(config.out)
    check_writable(folder)
    load_inputs(_train_config(config, {}), ())  # a recipe that suits no backbone is refused at once
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with lock_folder(folder):
        study = optuna.create_study(
            storage=f"sqlite:///{folder / _STUDY}",
            study_name=_fingerprint(config),  # another configuration in the folder is another study
            direction="maximize",
            load_if_exists=True,
        )
        for killed in study.get_trials(states=(TrialState.RUNNING,)):  # this process is alone in the folder
            study.tell(killed.number, state=TrialState.FAIL)
            study.enqueue_trial(killed.params)
        while (n_done := len(study.get_trials(states=(TrialState.COMPLETE,)))) < config.trials:
            # A seed of its own for each trial: a search that continues draws what an undisturbed one does.
            study.sampler = optuna.samplers.TPESampler(seed=(config.seed + n_done) % 2**32)
            logger.info(f"trial {n_done + 1} of {config.trials}")
            study.optimize(lambda trial: _value(trial, config), n_trials=1)
        for left in (_SHARED, _TRIAL):
            shutil.rmtree(folder / left, ignore_errors=True)
    best = study.best_trial
    if not best.value:
        reasons = sorted({reason for trial in study.trials for reason in trial.user_attrs.get("errors", [])})
        raise TrainingError(
            f"no trial was worth more than 0: {'; '.join(reasons) or 'validation measured 0'}; change the space"
        )
    return {"best": best.params, "value": best.value, "trials": n_done, "config": _write_best(config, best.params)}


def _fingerprint(config: SearchConfig) -> str:
    """Hash everything that decides what a trial is worth and which ones are suggested."""
    from ptec_udf.model.backbone import resolve
    from training.data.folder import read_extract_record
    from training.fit.inputs import package_versions

    facts = config.model_dump(mode="json", exclude={"extract", "out", "trials"})
    facts["space"] = list(facts["space"].items())  # the order decides the draws
    searched = config.space["backbone"].examples if "backbone" in config.space else []
    facts["backbones"] = {name: resolve(name).content_hash() for name in sorted({config.recipe.backbone, *searched})}
    facts["extract"] = read_extract_record(config.extract)["fingerprint"]
    return hashlib.sha256(json.dumps([facts, package_versions()], sort_keys=True).encode()).hexdigest()


def _train_config(config: SearchConfig, settings: Mapping[str, Any]) -> TrainConfig:
    values = with_settings(config.recipe, {**settings, "stopping.refit": False})
    values |= {"calibrator": "platt", "thresholds": "common", "tfidf": None}
    out = str(Path(config.out) / _TRIAL)
    return TrainConfig(**values, extract=config.extract, out=out, overwrite=True, seed=config.seed)


def _value(trial: Trial, config: SearchConfig) -> float:
    """Train with suggested settings; settings that fail are worth 0, so that the sampler learns to avoid them."""
    from training.train import train

    settings = {name: allowed.suggest(trial, name) for name, allowed in config.space.items()}
    metric = config.recipe.stopping.metric
    try:
        made = train(_train_config(config, settings), evaluated=(), state_folder=Path(config.out) / _SHARED)
    except (ValidationError, ConfigError, TrainingError) as error:
        trial.set_user_attr("errors", error.errors if isinstance(error, ConfigError) else [str(error)])
        logger.warning(f"trial counted as 0: {error}")
        return 0.0
    value = float(made["metrics"]["validation"][metric] or 0.0)
    logger.info(f"{metric} on validation {value:.4f}: {settings}")
    return value


def _write_best(config: SearchConfig, settings: Mapping[str, Any]) -> str:
    """Write the configuration of a training with the best settings; return its path."""
    import yaml

    folder = Path(config.out)
    values = {"extract": config.extract, "out": str(folder / "artifact"), **with_settings(config.recipe, settings)}
    text = yaml.safe_dump({"train": values | {"seed": config.seed}}, sort_keys=False)
    (folder / BEST).write_text(_HEADER.format(file=folder / BEST) + text, encoding="utf-8")
    return str(folder / BEST)
