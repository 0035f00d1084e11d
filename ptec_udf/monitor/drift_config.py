"""Configuration of drift: how unlike a night may be."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from ptec_udf.section import Section


class DriftConfig(Section):
    """When a night is too unlike the training extract, or the nights before it."""

    measure: bool = Field(True, description="whether nights measure their drift, from the scores that stand after them")
    psi_training: float | None = Field(
        0.25,
        gt=0,
        description="largest population stability index of a label's probabilities, and of the mix of labels, against "
        "rows of the training extract, where chance does not explain it; null: nothing is held against these",
    )
    psi_nights: float | None = Field(
        0.25, gt=0, description="the same of any figure against the nights before; null: none"
    )
    share_ratio: float | None = Field(
        2.0,
        gt=1,
        description="a label's share of companies at or over its threshold may grow or shrink so many times, or as "
        "chance explains, against both; null: any number of times",
    )
    length_ratio: float | None = Field(
        1.25,
        gt=1,
        description="texts may be so many times as long or short as those of the nights before, by their geometric "
        "mean, or as chance explains; null: any number of times",
    )
    reference_nights: int = Field(7, ge=1, description="so many nights before are what psi_nights compares with")
    least_companies: int = Field(100, ge=1, description="fewer companies, on either side, are not compared")
    signal_nights: int = Field(2, ge=1, description="it is time to train again when so many nights violate a limit,")
    signal_within: int = Field(3, ge=1, validate_default=True, description="of so many last ones")

    @field_validator("signal_within")
    @classmethod
    def _signal_can_come(cls, within: int, info: ValidationInfo) -> int:
        if within < (nights := info.data.get("signal_nights", 1)):
            raise ValueError(f"must be at least signal_nights, which is {nights}")
        return within
