"""The result of a comparison, in the form of the table ``evaluations``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

LABEL_FIGURE = {"map": "ap", "macro_f1": "f1"}
"""The figure of one label whose mean over labels is the figure of a model."""


class _Found(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Difference(_Found):
    """Challenger minus champion in one figure, with its interval; None where undefined.

    Attributes:
        figure: macro_f1 or map over all labels; f1 or ap of one.
        label: None for all labels.
        positives: of the label in the evaluated rows, or of all labels.
        champion: the champion's value.
        challenger: the challenger's value.
        difference: challenger minus champion.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    figure: str
    label: str | None
    positives: int
    champion: float | None
    challenger: float | None
    difference: float | None
    low: float | None
    high: float | None


class Comparison(_Found):
    """Champion and challenger on the same rows.

    Attributes:
        n_rows: evaluated rows.
        left_out: numbers of rows that were not evaluated, by reason.
        held_out: whether the challenger is known not to have learned from the rows.
        labels: labels of both models and the extract, which all figures cover as far as they occur.
        unjudged: labels of both models that the extract lacks.
        only_champion: labels that the challenger lacks.
        only_challenger: labels that the champion lacks.
        champion: its figures; empty without a champion.
        challenger: its figures.
        confidence: of the intervals.
        differences: over all labels first, then of each label.
    """

    n_rows: int
    left_out: dict[str, int]
    held_out: bool
    labels: list[str]
    unjudged: list[str]
    only_champion: list[str]
    only_challenger: list[str]
    champion: dict[str, float | None]
    challenger: dict[str, float | None]
    confidence: float
    differences: list[Difference]

    def overall(self, metric: str) -> Difference | None:
        """Return the difference over all labels; None without a champion."""
        return next((found for found in self.differences if found.figure == metric), None)

    def per_label(self, metric: str) -> list[Difference]:
        """Return the difference of each label, in the figure whose mean is ``metric``."""
        return [found for found in self.differences if found.figure == LABEL_FIGURE[metric]]
