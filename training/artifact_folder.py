"""The folder that an artifact is written to: checked before training, and replaced as a whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import ALL_FILES, MANIFEST
from training.folders import check_replaceable, replace_atomically


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder before any work.

    Raises:
        ConfigError: if it cannot be written, or is not empty, unless ``overwrite`` and it contains an artifact.
    """
    check_replaceable(out)
    if not out.exists() or not any(out.iterdir()):
        return
    present = {file.name for file in out.iterdir()}
    if overwrite and MANIFEST in present and present <= {*ALL_FILES}:
        return
    remedy = "it contains other files than an artifact's, choose another" if overwrite else "set overwrite to true"
    raise ConfigError(f"out must be absent or empty, was in use: {str(out)!r}; {remedy}")


def write_files(files: Mapping[str, bytes], out: Path) -> None:
    """Write an artifact's files, by name, in place of an earlier artifact; a kill leaves the old or the new one."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, data in files.items():
        (partial / name).write_bytes(data)
    replace_atomically(partial, out)
