"""The site file ``ptec.yaml``: one YAML file with all settings of a site, a section for each part.

Relative paths in it are relative to its folder. The whole file is checked before a command starts; a command needs
only its own sections.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptec_udf.config import ScoreConfig, SourceConfig, WarehouseConfig
from ptec_udf.config_file import check_values, read_values
from ptec_udf.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from ptec_udf.warehouse.tables import Warehouse

FILE_NAME = "ptec.yaml"

SECTIONS = {
    "housekeeping": "ptec_udf.monitor.housekeeping:HousekeepingConfig",
    "extract": "ptec_training.data.config:ExtractConfig",
    "train": "ptec_training.config:TrainConfig",
    "search": "ptec_training.search:SearchConfig",
    "benchmark": "ptec_training.benchmark:BenchmarkConfig",
    "evaluate": "ptec_training.evaluate.gate:EvaluateConfig",
    "recalibrate": "ptec_training.calibrate.config:RecalibrateConfig",
}
"""Class of each section that a command has for itself; the other sections are the fields of ``ScoreConfig``."""

_PATHS = (
    *("warehouse.folder", "warehouse.artifacts", "source.path"),
    *("extract.out", "extract.source.path", "train.extract", "train.out", "search.extract", "search.out"),
    *("benchmark.extract", "benchmark.out", "evaluate.extract", "evaluate.champion_extract"),
    *("recalibrate.extract", "recalibrate.out"),
)


@dataclass(frozen=True)
class Site:
    """A site file with overrides: texts ``section.key=value``, applied in order; None: no file, paths are relative."""

    file: Path | None
    overrides: tuple[str, ...] = ()

    def override(self, settings: Mapping[str, Any]) -> Site:
        """Return the site with values of options by dotted key; None and False leave a setting as it is."""
        changed = {key: value for key, value in settings.items() if value is not None and value is not False}
        texts = [
            f"{key}={json.dumps(value, default=lambda path: str(path.absolute()))}" for key, value in changed.items()
        ]
        return replace(self, overrides=(*self.overrides, *texts))

    def require_file(self) -> Site:
        """Return the site; raise ConfigError if there is no site file."""
        if self.file is None:
            raise ConfigError(
                f"no {FILE_NAME} in {str(Path.cwd())!r} or a folder above it; run 'ptec init' to write one, or name it "
                "with --config"
            )
        return self

    def value(self, dotted: str) -> Any:
        """Return a value of the file or an override as it is written; None if it is not set."""
        return _at(self._values()[0], dotted)

    @property
    def score(self) -> ScoreConfig:
        """The sections of the nightly run."""
        return self.section("")

    @property
    def warehouse(self) -> WarehouseConfig:
        """The section ``warehouse``."""
        return self.section("warehouse")

    def section(self, name: str) -> Any:
        """Check the whole file and return one section by its dotted name; ``""``: all sections of the nightly run.

        Raise ConfigError with all errors of the file; required settings of other sections may be missing.
        """
        values, errors = self._values()
        known = sorted({*ScoreConfig.model_fields, *SECTIONS})
        hint = f"allowed here: {', '.join(known)}"
        unknown = [key for key in values if key not in known]
        errors += [f"{key}: unknown section; {did_you_mean(str(key), known, hint)}" for key in unknown]
        present = SECTIONS.keys() & values.keys()
        doubled = [name for name in present if _at(values, f"{name}.warehouse") is not None]
        errors += [f"{name}.warehouse: unknown key; set it in the section warehouse" for name in doubled]
        # The methods of a benchmark need the extra train, which a machine that scores may lack.
        for other in ("", *sorted(present - {"benchmark"})):
            found = check_values(section_class(other), _section(values, other), other)[1]
            errors += [error for error in found if not error.endswith(": must be set")]
        config, found = check_values(section_class(name), _section(values, name), name)
        errors += found
        if errors:
            # The error of an inherited setting is reported where it is set.
            raise ConfigError([one for one in dict.fromkeys(errors) if one.partition(".")[2] not in errors])
        return config

    def session(self, name: str) -> SparkSession:
        """Start or take over the Spark session of the section ``warehouse``."""
        from ptec_udf.warehouse.session import build_session

        return build_session(self.warehouse, name)

    def open_warehouse(self, name: str) -> Warehouse:
        """Start a Spark session for a command, and create the tables that are missing."""
        from ptec_udf.warehouse.tables import Warehouse

        warehouse = Warehouse(self.session(name), self.warehouse.database)
        warehouse.ensure()
        return warehouse

    def _values(self) -> tuple[dict[str, Any], list[str]]:
        """Read the file with overrides, and make its paths absolute; an address such as s3://bucket is kept."""
        values, errors = read_values(self.file, self.overrides)
        values = {"warehouse": {}} | values
        if isinstance(values["warehouse"], dict):
            values["warehouse"] = {"folder": "warehouse"} | values["warehouse"]
        folder = self.file.resolve().parent if self.file else Path.cwd()
        for section, _, key in (dotted.rpartition(".") for dotted in _PATHS):
            settings = _at(values, section)
            path = settings.get(key) if isinstance(settings, dict) else None
            if isinstance(path, str) and path and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
                settings[key] = str(folder / path)
        return values, errors


def find_site(file: Path | None, overrides: Sequence[str] = (), *, needs_file: bool = True) -> Site:
    """Return the site of ``--config``, or of the nearest ``ptec.yaml`` from the working directory upwards.

    Raise ConfigError when there is none and ``needs_file``.
    """
    here = Path.cwd()
    nearest = (path for folder in (here, *here.parents) if (path := folder / FILE_NAME).is_file())
    site = Site(file or next(nearest, None), tuple(overrides))
    return site.require_file() if needs_file else site


def section_class(name: str) -> Any:
    """Return the class of a section by its dotted name; of ``""`` that of the nightly run."""
    first, *rest = name.split(".") if name else [""]
    found: Any = ScoreConfig
    if first in SECTIONS:
        module, _, kind = SECTIONS[first].partition(":")
        found = getattr(import_module(module), kind)
    elif first:
        found = ScoreConfig.model_fields[first].annotation
    for key in rest:
        found = found.model_fields[key].annotation
    return found


def _section(values: dict[str, Any], name: str) -> Any:
    """Return a section's values, with the inherited ones."""
    if not name:
        return {key: value for key, value in values.items() if key in ScoreConfig.model_fields}
    own = _at(values, name)
    own = {} if own is None else own
    if name not in SECTIONS or not isinstance(own, dict):
        return own
    inherited: dict[str, Any] = {key: values[key] for key in ("warehouse", "model") if key in values}
    if isinstance(extract := _at(values, "extract.out"), str):
        inherited["extract"] = extract
    if isinstance(source := values.get("source"), dict):
        inherited["source"] = {key: value for key, value in source.items() if key in SourceConfig.model_fields}
        if isinstance(changed := own.get("source"), dict) and not {"table", "path"} & changed.keys():
            own = own | {"source": inherited["source"] | changed}
    fields = section_class(name).model_fields
    return {key: value for key, value in inherited.items() if key in fields} | own


def _at(values: Any, dotted: str) -> Any:
    """Return the value at a dotted key, or None."""
    for name in dotted.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values
