"""The folder that an artifact is written to: looked at beforehand, and put in place whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact_format import ADAPTER, ADAPTER_CONFIG, CHOICE, HEAD, MANIFEST, METRICS, SEEN, TFIDF
from training.folders import check_replaceable, put_in_place

_NAMES = {MANIFEST, METRICS, ADAPTER, ADAPTER_CONFIG, HEAD, TFIDF, CHOICE, SEEN}


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder before any work is done.

    Raises:
        ConfigError: if it cannot be written, or holds something, unless that is an artifact to be replaced.
    """
    check_replaceable(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    present = {file.name for file in out.iterdir()}
    if overwrite and MANIFEST in present and present <= _NAMES:
        return
    if overwrite:
        others = "no artifact" if MANIFEST not in present else "other files than an artifact's"
        advice = f"it holds {others}, choose another"
    else:
        advice = "choose another or set overwrite to true"
    raise ConfigError(f"out must be absent or empty, was in use: {str(out)!r}; {advice}")


def write_files(files: Mapping[str, bytes], out: Path) -> None:
    """Write an artifact's files, by name, in place of an earlier artifact; a kill leaves the old or the new one."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, data in files.items():
        (partial / name).write_bytes(data)
    put_in_place(partial, out)
