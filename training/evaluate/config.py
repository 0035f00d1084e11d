"""The sections of ``ptec evaluate`` and of the gate that ``ptec promote`` applies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptec_udf.config import WarehouseConfig
from ptec_udf.section import Section


class GateConfig(Section):
    """Requirements for a challenger before an alias may move to it; a loss counts where its whole interval does."""

    aliases: list[str] = Field(default_factory=lambda: ["champion"], description="aliases that the gate guards")
    min_gain: float = Field(
        -0.01,
        ge=-1,
        le=1,
        description="the whole interval of the gain in mAP must lie above this; -0.01: not worse by more than 0.01 "
        "(non-inferiority); 0: surely better",
    )
    min_rows: int = Field(100, ge=1, description="fewest evaluated rows")
    max_decision_loss: float = Field(0.02, ge=0, le=1, description="largest loss of macro-F1")
    max_label_loss: float = Field(
        0.1, ge=0, le=1, description="largest loss of average precision of a label with at least 10 positives"
    )
    max_ece: float = Field(0.04, ge=0, le=1, description="calibration error that always passes")
    min_coverage: float = Field(1.0, ge=0, le=1, description="share of the champion's labels that must be kept")
    min_judged: float = Field(
        0.8, ge=0, le=1, description="share of the labels of both models that must occur in the evaluated rows"
    )


class EvaluateConfig(Section):
    """Which rows compare a challenger with which champion."""

    warehouse: WarehouseConfig = WarehouseConfig()
    extract: str = Field(min_length=1, description="folder of an extract made with the challenger's template")
    champion_extract: str | None = Field(
        None, min_length=1, description="folder of an extract made with the champion's template; null: the same"
    )
    split: Literal["dev", "test"] = Field("dev", description="evaluated rows")
    alias: str = Field("champion", pattern=r"^[A-Za-z0-9_]+$", description="alias of the model to compare with")
    gate: GateConfig = GateConfig()
