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

from ptec_training.config import Recipe, Seed, TrainConfig
from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.log import logger
from ptec_udf.section import Section, messages_of, refuse

if TYPE_CHECKING:
    from optuna import Trial

BEST = "best.yaml"
_STUDY, _SHARED, _TRIAL = "study.db", "shared", "trial"
_HEADER = "# Settings that ptec search chose on validation. Use: ptec train --config {file}\n\n"
# A trial is the first training of one network, measured by its logits.
_NOT_IN_A_TRIAL = {"ensemble_size", "tfidf", "thresholds", "stopping.refit"}
_DEFINES_THE_MEASURE = {"stopping.validation_share", "stopping.metric"}


class Range(Section):
    """The values of a setting: numbers from ``low`` to ``high``, whole where both are whole, or ``choices``."""

    low: float | int | None = Field(None, description="lowest value")
    high: float | int | None = Field(None, description="highest value")
    log: bool = Field(False, description="draw evenly on a logarithmic scale")
    choices: list[str | bool | int | float | None] | None = Field(
        None, min_length=2, description="values, in place of low and high"
    )

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Range:
        ends = (self.low, self.high)
        if (self.choices is None) == (None in ends) or (self.choices is not None and ends != (None, None)):
            raise ValueError("low and high must be set, or choices in their place")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError(f"low must be below high, was: {self.low} and {self.high}")
            if self.log and self.low <= 0:
                raise ValueError(f"low must be above 0 on a logarithmic scale, was: {self.low}")
        return self

    @property
    def examples(self) -> list[Any]:
        """Values that must be allowed: the ends or all choices; an end that is not whole draws fractions."""
        return self.choices or [self.low, self.high]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let the sampler choose a value."""
        if self.choices is not None:
            return trial.suggest_categorical(name, self.choices)
        is_whole = isinstance(self.low, int) and isinstance(self.high, int)
        suggest: Any = trial.suggest_int if is_whole else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)


PAPER = {
    "optimiser.head_lr": Range(low=1e-9, high=1e-1, log=True),
    "optimiser.prompt_lr": Range(low=1e-9, high=1.0, log=True),
    "optimiser.prompt_weight_decay": Range(low=1e-9, high=0.5, log=True),
    "prompt.n_tokens": Range(low=50, high=200),
    "stopping.epochs": Range(low=5, high=18),
}
"""Ranges of the paper's search (arXiv 2309.12075, appendix)."""


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
    """Try settings, and write the best as a configuration for ``ptec train``; may raise a UserError or a TrainingError.

    The value of the best trial, its metric on validation, is optimistic, as the best of many.
    """
    import optuna
    from optuna.trial import TrialState

    from ptec_training.fit.inputs import load_inputs
    from ptec_training.locks import lock_folder
    from ptec_udf.model.folders import check_writable

    folder = Path(config.out)
    check_writable(folder)
    study_name = _fingerprint(config, load_inputs(_train_config(config, {}), ()).record["fingerprint"])
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with lock_folder(folder):
        study = optuna.create_study(
            storage=f"sqlite:///{folder / _STUDY}",
            study_name=study_name,  # another configuration in the folder is another study
            direction="maximize",
            load_if_exists=True,
        )
        for killed in study.get_trials(states=(TrialState.RUNNING,)):  # this process is alone in the folder
            study.tell(killed.number, state=TrialState.FAIL)  # its settings are drawn again, by the same seed
        while (n_done := len(study.get_trials(states=(TrialState.COMPLETE,)))) < config.trials:
            # A seed of its own for each trial: a search that continues draws what an undisturbed one does.
            study.sampler = optuna.samplers.TPESampler(seed=(config.seed + n_done) % 2**32)
            logger.info(f"trial {n_done + 1} of {config.trials}")
            study.optimize(lambda trial: _value(trial, config), n_trials=1)
        for left in (_SHARED, _TRIAL):
            shutil.rmtree(folder / left, ignore_errors=True)
    best = study.best_trial
    if not best.value:
        raise TrainingError("no trial was worth more than 0; the warnings above name the reasons: change the space")
    return {"best": best.params, "value": best.value, "trials": n_done, "config": _write_best(config, best.params)}


def _fingerprint(config: SearchConfig, extract_fingerprint: str) -> str:
    """Hash everything that decides what a trial is worth and which ones are suggested."""
    from ptec_training.fit.inputs import package_versions
    from ptec_udf.model.backbone import resolve

    facts = config.model_dump(mode="json", exclude={"extract", "out", "trials"})
    facts["space"] = list(facts["space"].items())  # the order decides the draws
    searched = config.space["backbone"].examples if "backbone" in config.space else []
    facts["backbones"] = {name: resolve(name).content_hash() for name in sorted({config.recipe.backbone, *searched})}
    facts |= {"extract": extract_fingerprint, "packages": package_versions()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _train_config(config: SearchConfig, settings: Mapping[str, Any]) -> TrainConfig:
    values = with_settings(config.recipe, {**settings, "stopping.refit": False})
    values |= {"thresholds": "common", "tfidf": None}
    out = str(Path(config.out) / _TRIAL)
    return TrainConfig(**values, extract=config.extract, out=out, overwrite=True, seed=config.seed)


def _value(trial: Trial, config: SearchConfig) -> float:
    """Train with suggested settings; settings that fail are worth 0, so that the sampler learns to avoid them."""
    from ptec_training.train import train

    settings = {name: allowed.suggest(trial, name) for name, allowed in config.space.items()}
    metric = config.recipe.stopping.metric
    try:
        made = train(_train_config(config, settings), evaluated=(), state_folder=Path(config.out) / _SHARED)
    except (ValidationError, ConfigError, TrainingError) as error:
        logger.warning(f"trial counted as 0: {error}")
        return 0.0
    value = float(made["metrics"]["validation"][metric] or 0.0)
    logger.info(f"{metric} on validation {value:.4f}: {settings}")
    return value


def _write_best(config: SearchConfig, settings: Mapping[str, Any]) -> str:
    """Write the configuration of a training with the best settings; return its path."""
    import yaml

    file = Path(config.out) / BEST
    values = {"extract": config.extract, "out": str(file.with_name("artifact"))}
    values |= with_settings(config.recipe, settings) | {"seed": config.seed}
    text = yaml.safe_dump({"train": values}, sort_keys=False)
    file.write_text(_HEADER.format(file=file) + text, encoding="utf-8")
    return str(file)
