"""Output folders: checked before any work, locked while it runs, replaced as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ptec_udf.errors import ConfigError

LOCK = ".lock"
"""Name of the lock file in a locked folder."""


def replace_atomically(new: Path, folder: Path) -> None:
    """Rename ``new`` to ``folder``; the content that ``folder`` had is deleted last."""
    backup = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        shutil.rmtree(backup, ignore_errors=True)
        os.rename(folder, backup)
    os.rename(new, folder)
    shutil.rmtree(backup, ignore_errors=True)


def follow_link(folder: Path) -> Path:
    """Return the target of a link, so that the target is replaced and not the link."""
    return folder.resolve() if folder.is_symlink() or not folder.name else folder


def check_replaceable(out: Path) -> None:
    """Refuse a folder that cannot be renamed.

    Raises:
        ConfigError: for a mount point, or a folder that cannot be written.
    """
    if os.path.ismount(out):
        raise ConfigError(f"out must not be a mount point, since it is renamed, was: {str(out)!r}; use a folder in it")
    check_writable(out)
    check_writable(out.absolute().parent)


def check_writable(out: Path) -> None:
    """Refuse a folder that cannot be made or written.

    Raises:
        ConfigError: naming the path that is in the way.
    """
    path = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if path == out.absolute() and not path.is_dir():
        raise ConfigError(f"out must be a folder, was a file: {str(out)!r}")
    if not (path.is_dir() and os.access(path, os.W_OK)):
        raise ConfigError(f"out must be in a folder that can be written, was: {str(out)!r}; check {str(path)!r}")


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs.

    Raises:
        ConfigError: if another process has locked it.
    """
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"{str(folder)!r} must not be in use, another process works in it; wait for it") from None
