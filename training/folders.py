"""Folders that are written: checked beforehand, for one process alone, put in place so that a kill leaves one whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptec_udf.errors import ConfigError
from ptec_udf.log import logger

LOCK = ".lock"
"""File that the process in a folder holds locked."""


def put_in_place(new: Path, folder: Path) -> None:
    """Let ``folder`` be what ``new`` is; what stood there goes away last.

    A kill between the two renames leaves the former one under ``name_of_old(folder)``.
    """
    old = name_of_old(folder)
    if folder.exists():  # else the old one is all that such a kill left
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def followed(folder: Path) -> Path:
    """Follow a link, so that what it points to is replaced, and not the link itself."""
    return folder.resolve() if folder.is_symlink() or not folder.name else folder


def check_replaceable(out: Path) -> None:
    """Refuse a folder that could not be put in place as a whole, before any work is done.

    Raises:
        ConfigError: naming the place that is in the way.
    """
    if os.path.ismount(out):
        raise ConfigError(
            f"out must be a folder that can be renamed, {str(out)!r} is where a disk is mounted; choose one in it"
        )
    check_writable(out)
    check_writable(out.absolute().parent)  # its state and its drafts lie beside it


def check_writable(out: Path) -> None:
    """Refuse a folder that could not be made, or written where it is there, before any work is done.

    Raises:
        ConfigError: naming the place that is in the way.
    """
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if place == out.absolute() and not place.is_dir():
        raise ConfigError(f"out must be a folder, was a file: {str(out)!r}")
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise ConfigError(f"out must be in a folder that can be written, was: {str(out)!r}; look at {str(place)!r}")


def name_of_old(folder: Path) -> Path:
    """Where ``put_in_place`` keeps what it replaces, for as long as that takes."""
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs; a killed process lets go.

    Raises:
        ConfigError: where another one is in it.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"out must not be in use, {str(folder)!r} is, by another process; wait for it") from None
        except OSError:
            logger.info(f"{str(folder)!r} is on a disk without locks: let no other process work in it")
        yield
