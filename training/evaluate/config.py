"""Configuration of ``ptec evaluate``, and of the gate that ``ptec promote`` applies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptec_udf.config import WarehouseConfig
from ptec_udf.section import Section


class GateConfig(Section):
    """What a challenger must show before it takes the champion's place."""

    aliases: list[str] = Field(
        default_factory=lambda: ["champion"], description="pointers that it guards; others move freely"
    )
    metric: Literal["map", "macro_f1"] = Field("map", description="figure that must be better")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="of the intervals of differences")
    min_gain: float = Field(
        0.0, ge=-1, le=1, description="the whole interval of the gain must lie above this; 0: surely better"
    )
    min_rows: int = Field(100, ge=1, description="fewest rows that judge")
    max_decision_loss: float = Field(
        0.02, ge=0, le=1, description="macro-F1 that may be lost; more counts where its whole interval lies beyond this"
    )
    max_label_loss: float = Field(
        0.1, ge=0, le=1, description="what a label may lose; more counts where its whole interval lies beyond this"
    )
    min_label_positives: int = Field(
        10, ge=1, description="a label with fewer positives in the rows that judge is not looked at alone"
    )
    max_ece: float = Field(
        0.04, ge=0, le=1, description="calibration error that is good enough whatever the champion's"
    )
    max_ece_rise: float = Field(
        0.01, ge=0, le=1, description="by how much it may exceed the champion's, or that by chance, where that is more"
    )
    min_coverage: float = Field(1.0, ge=0, le=1, description="share of the champion's labels that are still there")
    min_judged: float = Field(
        0.8, ge=0, le=1, description="share of the labels of both that occur in the rows that judge"
    )


class EvaluateConfig(Section):
    """Which rows judge a challenger beside which champion."""

    warehouse: WarehouseConfig = WarehouseConfig()
    extract: str = Field(min_length=1, description="folder of an extract made with the challenger's template")
    champion_extract: str | None = Field(
        None, min_length=1, description="folder of one made with the champion's template; null: the same"
    )
    split: Literal["dev", "test"] = Field("dev", description="rows that judge")
    alias: str = Field("champion", pattern=r"^[A-Za-z0-9_]+$", description="pointer to the model to compare with")
    max_learned: float = Field(
        0.05, ge=0, lt=1, description="share of the rows that may be left out because a model has learned from them"
    )
    resamples: int = Field(1000, ge=100, description="bootstrap samples of the rows that judge")
    gate: GateConfig = GateConfig()
