"""What a comparison finds, in the form in which it is kept and read again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

LABEL_FIGURE = {"map": "ap", "macro_f1": "f1"}
"""The figure of one label whose mean over labels is the figure of a model."""


class _Found(BaseModel):
    """Something found; columns of the table that are not its own are no matter."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Difference(_Found):
    """Challenger minus champion in one figure, with its interval.

    Attributes:
        figure: macro_f1 or map, over all labels; f1 or ap, of one.
        label: None for all.
        positives: of the label in the rows that judge, or of all labels.
        champion: the champion's value; None where it is undefined.
        challenger: the challenger's.
        difference: challenger minus champion.
        low: lower end of the interval.
        high: its upper end.
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
        n_rows: rows that judged.
        left_out: numbers of rows that did not, by the reason.
        held_out: whether the challenger is known not to have learned from the rows; the others were left out.
        labels: that both know and the extract has: what all figures are about, as far as the rows have them.
        unjudged: labels that both know and the extract does not.
        only_champion: labels that the challenger lacks.
        only_challenger: labels that the champion lacks.
        champion: its figures; empty where there is none.
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
        """Return the difference over all labels; None where there was no champion."""
        return next((found for found in self.differences if found.figure == metric), None)

    def of_labels(self, metric: str) -> list[Difference]:
        """Return the difference of each label, in the figure whose mean is ``metric``."""
        return [found for found in self.differences if found.figure == LABEL_FIGURE[metric]]
