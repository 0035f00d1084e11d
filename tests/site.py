"""Configurations for tests: a site file with the sections that a test needs, or one section from overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ptec_udf.config_file import check_values, read_values
from ptec_udf.errors import ConfigError


def load_config(kind: type[Any], file: Path | None, overrides: Sequence[str] = ()) -> Any:
    """Read a file (None: the defaults), apply overrides and validate the result; raise all errors at once."""
    values, errors = read_values(file, overrides)
    config, more = check_values(kind, values)
    if config is None or errors:
        raise ConfigError([*errors, *more])
    return config


def write_site(folder: Path, **sections: Any) -> Path:
    """Write ``ptec.yaml`` into a folder and return its path; the warehouse is ``folder/warehouse`` unless set."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ptec.yaml"
    content = {"warehouse": {"folder": str(folder / "warehouse")}, **sections}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
