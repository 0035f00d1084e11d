"""The section of ``ptec recalibrate``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ptec_udf.config import ModelChoice, WarehouseConfig
from ptec_udf.section import Section
from training.config import CalibratorName, ThresholdsName

Probability = Annotated[float, Field(gt=0, lt=1)]


class RecalibrateConfig(Section):
    """Which model, what decides its new parameters, and where the new artifact goes."""

    warehouse: WarehouseConfig = WarehouseConfig()
    model: ModelChoice = ModelChoice()
    extract: str | None = Field(
        None, min_length=1, description="folder of ptec extract whose labels decide; null: only set_thresholds applies"
    )
    split: Literal["dev", "test"] = Field("dev", description="rows to fit to, which the model has not learned from")
    min_rows: int = Field(100, ge=1, description="fewest labelled rows with stored logits; fewer are refused")
    calibrator: CalibratorName | Literal["keep"] = Field("platt", description="as in training; keep: no change")
    thresholds: ThresholdsName | Literal["keep"] = Field(
        "common", description="as in training; keep: thresholds stay on the same logits"
    )
    set_thresholds: dict[str, Probability] = Field(
        default_factory=dict, description="label: threshold as a probability; overrides the fitted one"
    )
    out: str = Field(min_length=1, description="folder of the new artifact; must be absent or empty")
    overwrite: bool = Field(False, description="replace an earlier artifact in the folder")
    name: str | None = Field(None, min_length=1, description="name at registration; null: the folder's name")

    @property
    def fits(self) -> bool:
        """Whether anything is fitted to rows."""
        return self.extract is not None and not self.calibrator == self.thresholds == "keep"

    @model_validator(mode="after")
    def _something_changes(self) -> RecalibrateConfig:
        if not self.fits and not self.set_thresholds:
            raise ValueError(
                "nothing would change: set extract, with calibrator or thresholds other than keep, or set_thresholds"
            )
        return self
