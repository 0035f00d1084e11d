"""Configuration of ``ptec recalibrate``."""

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
        None, min_length=1, description="folder that ptec extract wrote, whose labels decide; null: nothing is fitted"
    )
    split: Literal["dev", "test"] = Field(
        "dev", description="rows that fit: never train, nor validation in it, since the model has learned from them"
    )
    least_rows: int = Field(100, ge=1, description="fewest labelled rows whose logits are stored; fewer are refused")
    calibrator: CalibratorName | Literal["keep"] = Field(
        "platt", description="as for training; keep: calibration stays as it is"
    )
    thresholds: ThresholdsName | Literal["keep"] = Field(
        "common", description="as for training; keep: they stay where they are on the logits"
    )
    set_thresholds: dict[str, Probability] = Field(
        default_factory=dict, description="label: threshold as a probability; these win over what is fitted"
    )
    out: str = Field(min_length=1, description="folder of the new artifact; must be absent or empty")
    overwrite: bool = Field(False, description="replace an earlier artifact in the folder")
    name: str | None = Field(None, min_length=1, description="name at registration; null: the folder's")

    @model_validator(mode="after")
    def _something_changes(self) -> RecalibrateConfig:
        keeps_all = self.extract is None or (self.calibrator == self.thresholds == "keep")
        if keeps_all and not self.set_thresholds:
            raise ValueError(
                "nothing would change: set extract, with calibrator or thresholds other than keep, or set_thresholds"
            )
        return self
