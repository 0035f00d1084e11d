"""Configuration of ``ptec search``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from ptec_udf.section import Section, messages_of, refuse
from training.config import Recipe, Seed

RESULTS = "results.json"  # what each trial came to, in a search's folder

# A trial is the first training of one member's network, measured by its logits.
_NOT_IN_A_TRIAL = {"members", "combine", "terms", "calibrator", "thresholds", "stopping.refit"}
_WHAT_IS_MEASURED = {"stopping.validation_share", "stopping.metric"}


class Range(Section):
    """What a setting may be: numbers from ``low`` to ``high``, whole ones where both are whole, or ``choices``."""

    low: float | int | None = Field(None, description="least value")
    high: float | int | None = Field(None, description="greatest value")
    log: bool = Field(False, description="draw evenly on a logarithmic scale")
    choices: list[Any] | None = Field(None, min_length=2, description="values, in place of low and high")

    @field_validator("choices")
    @classmethod
    def _are_plain(cls, choices: list[Any] | None) -> list[Any] | None:
        if lists := [choice for choice in choices or [] if isinstance(choice, list | dict)]:
            raise ValueError(f"must hold text, numbers, true, false or null, Optuna keeps no others, was: {lists[0]}")
        return choices

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Range:
        ends = (self.low, self.high)
        if (self.choices is None) == (None in ends) or (self.choices is not None and ends != (None, None)):
            raise ValueError("low and high must be set, or choices in their place")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError(f"low must be below high, was: {self.low} and {self.high}")
            if self.log and self.low <= 0:
                raise ValueError(f"low must be over 0 on a logarithmic scale, was: {self.low}")
        return self

    @property
    def ends(self) -> list[Any]:
        """Values whose being allowed means that all are; where fractions are drawn, one of them."""
        if self.choices is not None:
            return self.choices
        if self.low is None or self.high is None or (isinstance(self.low, int) and isinstance(self.high, int)):
            return [self.low, self.high]
        return [self.low, self.high, self.low + (self.high - self.low) / math.pi]


# Ranges of the paper's search (arXiv 2309.12075, appendix), the head's learning rate first, which mattered most there.
_OF_THE_PAPER = {
    "optimiser.head_lr": Range(low=1e-9, high=1e-1, log=True),
    "optimiser.prompt_lr": Range(low=1e-9, high=1.0, log=True),
    "optimiser.prompt_weight_decay": Range(low=1e-9, high=0.5, log=True),
    "prompt.n_tokens": Range(low=50, high=200),
    "stopping.epochs": Range(low=5, high=18),
}


class SearchConfig(Section):
    """What is tried, on which rows, and how often."""

    extract: str = Field(min_length=1, description="folder that ptec extract wrote; dev and test are not read")
    out: str = Field(min_length=1, description="folder of the study and its results; trials that are there are kept")
    recipe: Recipe = Recipe()
    space: dict[str, Range] = Field(
        default_factory=lambda: dict(_OF_THE_PAPER), min_length=1, description="settings of the recipe to choose"
    )
    first_alone: int = Field(0, ge=0, description="so many trials vary only the first setting of space")
    trials: int = Field(40, ge=1, description="trainings with different settings")
    random_trials: int = Field(25, ge=1, description="so many of them are drawn at random before the others are guided")
    confirmed: int = Field(3, ge=1, description="so many of the best settings are trained with all seeds")
    seeds: list[Seed] = Field([42, 43, 44], min_length=1, description="the first is that of all trials")

    @model_validator(mode="after")
    def _space_fits_the_recipe(self) -> SearchConfig:
        faults = [
            f"space.{setting}: {message[0].lower()}{message[1:]}, was: {value!r}"
            for setting, allowed in self.space.items()
            for value in allowed.ends
            for message in _messages(self.recipe, setting, value)
        ]
        if not self.recipe.has_prompt:
            faults += [
                f"space.{setting}: must not be searched where lora is set or prompt.kind is none: no prompt is trained"
                for setting in self.space
                if setting.startswith(("prompt.", "optimiser.prompt_"))
            ]
        has_label_attention = "label_attention" in (self.recipe.pooling, *self.choices("pooling"))
        if "optimiser.attention_lr" in self.space and not has_label_attention:
            faults.append("space.optimiser.attention_lr: must not be searched without pooling: label_attention")
        unread = {setting for setting in self.space if {setting, setting.partition(".")[0]} & _NOT_IN_A_TRIAL}
        faults += [f"space.{setting}: must not be searched, trials do not depend on it" for setting in sorted(unread)]
        unlike = sorted(_WHAT_IS_MEASURED & set(self.space))
        faults += [f"space.{setting}: must not be searched, trials would not be measured alike" for setting in unlike]
        faults += [
            f"space.{setting}: must not be searched where recipe.{section} is null; set it, for instance to {{}}"
            for section in ("lora", "auxiliary")
            for setting in self.space
            if setting.startswith(f"{section}.") and getattr(self.recipe, section) is None
        ]
        if len(set(self.seeds)) < len(self.seeds):
            faults.append(f"seeds must differ, were: {self.seeds}")
        refuse(faults)
        return self

    def choices(self, setting: str) -> list[Any]:
        """The values that a setting is chosen from; none where it is not searched."""
        return (self.space[setting].choices or []) if setting in self.space else []


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's values with some set, by dotted key."""
    values = recipe.model_dump()
    for dotted, value in settings.items():
        *parents, last = dotted.split(".")
        place = values
        for name in parents:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        place[last] = value
    return values


def _messages(recipe: Recipe, setting: str, value: Any) -> list[str]:
    try:
        Recipe.model_validate(with_settings(recipe, {setting: value}))
    except ValidationError as error:
        return [message for fault in error.errors() for message in messages_of(fault)]
    return []
