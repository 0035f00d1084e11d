"""The site file ``ptec.yaml``: one YAML file with all settings of a site, a section for each part.

A command finds it in the working directory or a folder above it, or is given ``--config FILE``. Relative paths in it
are relative to its folder. The whole file is checked before a command starts; a command needs only its own sections.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from ptec_udf.config import ScoreConfig, ScoreSourceConfig, SourceConfig, WarehouseConfig
from ptec_udf.config_file import check_values, read_values
from ptec_udf.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from ptec_udf.warehouse.tables import Warehouse

ConfigT = TypeVar("ConfigT", bound=BaseModel)

FILE_NAME = "ptec.yaml"

SECTIONS = {
    "housekeeping": "ptec_udf.monitor.housekeeping:HousekeepingConfig",
    "extract": "training.data.config:ExtractConfig",
    "train": "training.config:TrainConfig",
    "search": "training.search:SearchConfig",
    "benchmark": "training.benchmark.config:BenchmarkConfig",
    "evaluate": "training.evaluate.config:EvaluateConfig",
    "recalibrate": "training.calibrate.config:RecalibrateConfig",
}
"""Class of each section that a command has for itself; the other sections are the fields of ``ScoreConfig``."""

CHECKED_ON_USE = {"benchmark"}
"""Its methods need the extra ``train``, which the machine that scores may lack."""

INHERITED = ("warehouse", "source", "model")
"""Top-level sections whose values a command's own section takes over, unless it sets them."""

PATHS = (
    *("warehouse.folder", "warehouse.artifacts", "source.path"),
    *("extract.out", "extract.source.path", "train.extract", "train.out", "search.extract", "search.out"),
    *("benchmark.extract", "benchmark.out", "evaluate.extract", "evaluate.champion_extract"),
    *("recalibrate.extract", "recalibrate.out"),
)
"""Settings that are paths."""


@dataclass(frozen=True)
class Site:
    """A site file with overrides; its sections are read when a command asks for them.

    Attributes:
        file: the YAML file.
        overrides: texts ``section.key=value``, applied in order.
    """

    file: Path
    overrides: tuple[str, ...] = ()

    def override(self, settings: Mapping[str, Any]) -> Site:
        """Return the site with values of options by dotted key, whose paths are relative to the working directory.

        None and False leave a setting as it is.
        """
        given = {key: value for key, value in settings.items() if value is not None and value is not False}
        texts = {key: str(value.absolute()) if isinstance(value, Path) else value for key, value in given.items()}
        more = (f"{key}={json.dumps(value)}" for key, value in texts.items())
        return replace(self, overrides=(*self.overrides, *more))

    @property
    def score(self) -> ScoreConfig:
        """The sections of the nightly run."""
        return self.section(ScoreConfig)

    @property
    def warehouse(self) -> WarehouseConfig:
        """The section ``warehouse``."""
        return self.section(WarehouseConfig, "warehouse")

    def section(self, kind: type[ConfigT], name: str = "") -> ConfigT:
        """Check the whole file and return one section.

        Args:
            kind: the section's class.
            name: its dotted name; without one, all sections of the nightly run.

        Raises:
            ConfigError: with all errors of the file; required settings of other sections may be missing.
        """
        values, errors = self._values()
        errors += [f"{key}: unknown section; {_hint(key)}" for key in values if key not in _known()]
        errors += _errors(ScoreConfig, _of_score(values), "")
        for other in SECTIONS.keys() & values.keys():
            if _at(values, f"{other}.warehouse") is not None:
                errors.append(f"{other}.warehouse: unknown key; set it in the section warehouse")
        for other in SECTIONS.keys() & values.keys() - CHECKED_ON_USE:
            errors += _errors(section_class(other), _composed(values, other), other)
        wanted = _of_score(values) if not name else _composed(values, name)
        inherited = INHERITED if name in SECTIONS else ()
        config, own = check_values(kind, wanted, name, inherited)
        errors += own
        if errors or config is None:
            raise ConfigError(list(dict.fromkeys(errors)))
        return config

    def session(self, name: str) -> SparkSession:
        """Start or take over the Spark session of the section ``warehouse``."""
        from ptec_udf.warehouse.session import build_session

        return build_session(self.warehouse, name)

    def open_warehouse(self, name: str) -> Warehouse:
        """Start a Spark session for a command, and create the tables that are missing."""
        from ptec_udf.warehouse.tables import Warehouse

        config = self.warehouse
        warehouse = Warehouse(self.session(name), config.database)
        warehouse.ensure()
        return warehouse

    def _values(self) -> tuple[dict[str, Any], list[str]]:
        """Read the file with overrides, and make its paths absolute."""
        values, errors = read_values(self.file, self.overrides)
        for dotted in PATHS:
            section, _, key = dotted.rpartition(".")
            settings = _at(values, section)
            if isinstance(settings, dict) and isinstance(path := settings.get(key), str):
                settings[key] = _relative_to(path, self.file.resolve().parent)
        return values, errors


def find_site(file: Path | None, overrides: Sequence[str] = ()) -> Site:
    """Return the site of ``--config``, or of the nearest ``ptec.yaml`` from the working directory upwards.

    Raises:
        ConfigError: when there is none.
    """
    if file is not None:
        return Site(file, tuple(overrides))
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return Site(folder / FILE_NAME, tuple(overrides))
    raise ConfigError(
        f"no {FILE_NAME} in {str(here)!r} or a folder above it; run 'ptec init' to write one, or name it with --config"
    )


def section_class(name: str) -> type[BaseModel]:
    """Import the class of a command's own section."""
    module, _, kind = SECTIONS[name].partition(":")
    return getattr(import_module(module), kind)


def _known() -> set[str]:
    return {*ScoreConfig.model_fields, *SECTIONS}


def _hint(key: Any) -> str:
    return did_you_mean(str(key), _known(), f"allowed here: {', '.join(sorted(_known()))}")


def _of_score(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in ScoreConfig.model_fields}


def _errors(kind: type[BaseModel], values: Any, name: str) -> list[str]:
    """Return the errors of a section that is not needed: a required setting may be missing."""
    _, errors = check_values(kind, values, name, INHERITED if name else ())
    return [error for error in errors if not error.endswith(": must be set")]


def _composed(values: dict[str, Any], name: str) -> Any:
    """Return a section's values with what it takes over from others."""
    own = _at(values, name)
    if own is None:
        own = {}
    if name not in SECTIONS or not isinstance(own, dict):
        return own
    kind = section_class(name)
    taken = {key: values[key] for key in INHERITED if key in kind.model_fields and isinstance(values.get(key), dict)}
    if "source" in taken:
        of_score = ScoreSourceConfig.model_fields.keys() - SourceConfig.model_fields.keys()
        taken["source"] = {key: value for key, value in taken["source"].items() if key not in of_score}
        if isinstance(source := own.get("source"), dict) and not {"table", "path"} & source.keys():
            own = own | {"source": taken["source"] | source}
    if "extract" in kind.model_fields and isinstance(extract := _at(values, "extract.out"), str):
        taken["extract"] = extract
    return taken | own


def _at(values: Any, dotted: str) -> Any:
    """Return what is at a dotted key; None where nothing is."""
    for name in dotted.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _relative_to(path: str, folder: Path) -> str:
    """Make a path absolute; an address such as s3://bucket stays."""
    return path if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path) or not path else str(folder / path)
