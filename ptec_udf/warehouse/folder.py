"""The folder of the embedded warehouse, ``<folder>/<database>/<table>``, read without Spark."""

from __future__ import annotations

import re
from pathlib import Path

from ptec_udf.errors import ConfigError


def make_folder(folder: Path, setting: str) -> None:
    """Create the folder that a setting names; raise ConfigError if it cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{str(folder)!r} ({error.strerror})"
        raise ConfigError(f"{setting} must be a folder that can be written, was: {reason}") from None


def find_tables(folder: Path) -> dict[str, tuple[Path, list[str]]]:
    """Return the folder and the tables of each database; a folder whose name Spark does not accept is skipped."""
    found: dict[str, tuple[Path, list[str]]] = {}
    for log in sorted([*folder.glob("*/_delta_log"), *folder.glob("*/*/_delta_log")]):
        table, place = log.parent, log.parent.parent
        # Spark puts the tables of `default` into the folder itself, the tables of CREATE DATABASE x into x.db.
        name = "default" if place == folder else place.name.removesuffix(".db")
        if re.fullmatch(r"\w+", table.name) and re.fullmatch(r"\w+", name):
            found.setdefault(name, (place, []))[1].append(table.name)
    return found
