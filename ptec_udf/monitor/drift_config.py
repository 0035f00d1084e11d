"""Configuration of drift: how different a run may be from its references."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from ptec_udf.section import Section


class DriftConfig(Section):
    """When a run differs too much from the training extract or from earlier runs."""

    measure: bool = Field(True, description="measure drift after each run, from its scores")
    psi_training: float | None = Field(
        0.25,
        gt=0,
        description="largest population stability index of a label's probabilities, and of the label mix, against "
        "held-out rows of the training extract; null: no comparison, if the source is not like the extract",
    )
    psi_runs: float = Field(
        0.25, gt=0, description="largest population stability index of any figure against earlier runs"
    )
    share_ratio: float = Field(
        2.0, gt=1, description="largest factor by which a label's share of companies may grow or shrink"
    )
    reference_runs: int = Field(7, ge=1, description="number of earlier runs that psi_runs compares with")
    min_companies: int = Field(
        100, ge=1, description="fewest companies on both sides of a comparison; below, chance decides"
    )
    signal_runs: int = Field(2, ge=1, description="it is time to retrain when this many runs exceed a limit,")
    signal_within: int = Field(3, ge=1, validate_default=True, description="out of this many last runs")

    @field_validator("signal_within")
    @classmethod
    def _signal_is_possible(cls, within: int, info: ValidationInfo) -> int:
        if within < (runs := info.data.get("signal_runs", 1)):
            raise ValueError(f"must be at least signal_runs, which is {runs}")
        return within
