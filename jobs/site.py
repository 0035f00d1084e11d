"""The warehouse that a command works on, whichever command's configuration file names it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, model_validator

from ptec_udf.config import EngineConfig, ScoreConfig, WarehouseConfig
from ptec_udf.config_file import load_config
from ptec_udf.log import logger
from ptec_udf.monitor.housekeeping import HousekeepingConfig
from ptec_udf.section import Section
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from training.calibrate.recalibration.config import RecalibrateConfig
from training.data.config import ExtractConfig
from training.evaluate.config import EvaluateConfig, GateConfig


class AnyConfig(Section):
    """The sections warehouse, gate and engine of any configuration file; its others are for other commands."""

    model_config = ConfigDict(extra="ignore")

    warehouse: WarehouseConfig = WarehouseConfig()
    gate: GateConfig = GateConfig()
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="before")
    @classmethod
    def _knows_all_sections(cls, values: dict[str, Any]) -> dict[str, Any]:
        kinds = (ScoreConfig, ExtractConfig, EvaluateConfig, RecalibrateConfig, HousekeepingConfig)
        known = {name for kind in kinds for name in kind.model_fields}
        if unknown := sorted(str(name) for name in set(values) - known):
            raise ValueError(
                "the configuration must be one that names a warehouse, as those of extract, score, evaluate, "
                f"recalibrate and housekeeping do; in none of them stands: {', '.join(unknown)}"
            )
        return values


def load_site(config_file: Path | None, overrides: Sequence[str]) -> AnyConfig:
    """Read what is of use to every command; say which overrides are of no use here, whoever else they are for.

    Raises:
        ConfigError: with all faults.
    """
    config = load_config(AnyConfig, config_file, overrides)
    for key in (text.partition("=")[0].strip() for text in overrides):
        if key.partition(".")[0] not in AnyConfig.model_fields:
            logger.warning(f"--set {key} has no effect on this command")
    return config


def open_warehouse(config_file: Path | None, overrides: Sequence[str], name: str) -> tuple[Warehouse, WarehouseConfig]:
    """Open the warehouse that a configuration names, with its tables there."""
    config = load_site(config_file, overrides).warehouse
    return opened(config, name), config


def opened(config: WarehouseConfig, name: str) -> Warehouse:
    """Open a warehouse for a command of a name, with its tables there."""
    warehouse = Warehouse(build_session(config, name), config.database)
    warehouse.ensure()
    return warehouse
