"""Output folders: checked before any work, replaced as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import ALL_FILES, CARD, MANIFEST


def replace_atomically(new: Path, folder: Path) -> None:
    """Rename ``new`` to ``folder``; the content that ``folder`` had is deleted last."""
    backup = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        shutil.rmtree(backup, ignore_errors=True)
        os.rename(folder, backup)
    os.rename(new, folder)
    shutil.rmtree(backup, ignore_errors=True)


def write_artifact_files(files: Mapping[str, bytes], out: Path) -> None:
    """Write an artifact's files, by name, in place of an earlier artifact; a kill leaves the old or the new one."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, data in files.items():
        (partial / name).write_bytes(data)
    replace_atomically(partial, out)


def check_artifact_folder(out: Path, overwrite: bool) -> None:
    """Raise a ConfigError if ``out`` cannot be written, or is in use, unless ``overwrite`` and it is an artifact."""
    check_replaceable(out)
    present = {file.name for file in out.iterdir()} if out.exists() else set()
    is_artifact = MANIFEST in present and present <= {*ALL_FILES, CARD}
    check_unused(out, present, overwrite, is_replaceable=is_artifact)


def check_unused(out: str | Path, present: set[str], overwrite: bool, *, is_replaceable: bool) -> None:
    """Refuse, with a ConfigError, a folder with files, unless they may be replaced and ``overwrite`` is set."""
    if not present or (overwrite and is_replaceable):
        return
    remedy = "it contains files of another kind, choose another folder" if overwrite else "set overwrite to true"
    raise ConfigError(f"out must be absent or empty, was in use: {str(out)!r}; {remedy}")


def check_replaceable(out: Path) -> None:
    """Raise a ConfigError for a folder that cannot be renamed: a mount point, or in a folder that cannot be written."""
    if os.path.ismount(out):
        raise ConfigError(f"out must not be a mount point, since it is renamed, was: {str(out)!r}; use a folder in it")
    check_writable(out)
    check_writable(out.absolute().parent)


def check_writable(out: Path) -> None:
    """Raise a ConfigError for a folder that cannot be made or written, with the path that cannot be written."""
    path = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if path == out.absolute() and not path.is_dir():
        raise ConfigError(f"out must be a folder, was a file: {str(out)!r}")
    if not (path.is_dir() and os.access(path, os.W_OK)):
        raise ConfigError(f"out must be in a folder that can be written, was: {str(out)!r}; check {str(path)!r}")
