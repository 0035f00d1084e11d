"""The values that ``ptec search`` tries for a setting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ptec_udf.section import Section

if TYPE_CHECKING:
    from optuna import Trial


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
    def is_whole(self) -> bool:
        """Whether whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def examples(self) -> list[Any]:
        """Values that must be allowed: the ends or all choices, and a fraction where fractions are drawn."""
        if self.choices is not None or self.low is None or self.high is None:
            return self.choices or []
        return [self.low, self.high, *([] if self.is_whole else [self.low + (self.high - self.low) / math.pi])]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let the sampler choose a value."""
        if self.choices is not None:
            return trial.suggest_categorical(name, self.choices)
        suggest: Any = trial.suggest_int if self.is_whole else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)


PAPER = {
    "optimiser.head_lr": Range(low=1e-9, high=1e-1, log=True),
    "optimiser.prompt_lr": Range(low=1e-9, high=1.0, log=True),
    "optimiser.prompt_weight_decay": Range(low=1e-9, high=0.5, log=True),
    "prompt.n_tokens": Range(low=50, high=200),
    "stopping.epochs": Range(low=5, high=18),
}
"""Ranges of the paper's search (arXiv 2309.12075, appendix)."""
