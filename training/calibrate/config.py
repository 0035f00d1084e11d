"""The section of ``ptec recalibrate``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ptec_training.config import ThresholdsName
from ptec_udf.config import ModelChoice, WarehouseConfig
from ptec_udf.section import Section


class RecalibrateConfig(Section):
    """Which model, what decides its new parameters, and where the new artifact goes."""

    warehouse: WarehouseConfig = WarehouseConfig()
    model: ModelChoice = ModelChoice()
    extract: str | None = Field(
        None, min_length=1, description="folder of ptec extract whose labels decide; null: only set_thresholds applies"
    )
    split: Literal["dev", "test"] = Field("dev", description="rows to fit to, which the model has not learned from")
    min_rows: int = Field(100, ge=1, description="fewest labelled rows with stored logits; fewer are refused")
    thresholds: ThresholdsName = Field("common", description="as in training")
    set_thresholds: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=dict, description="label: threshold as a probability; overrides the fitted one"
    )
    out: str = Field(min_length=1, description="folder of the new artifact; must be absent or empty")
    overwrite: bool = Field(False, description="replace an earlier artifact in the folder")
    name: str | None = Field(None, min_length=1, description="name at registration; null: the folder's name")

    @model_validator(mode="after")
    def _something_changes(self) -> RecalibrateConfig:
        if self.extract is None and not self.set_thresholds:
            raise ValueError("nothing would change: set extract or set_thresholds")
        return self
