"""One folder in the place of another, so that a kill at any moment leaves the one or the other whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


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


def name_of_old(folder: Path) -> Path:
    """Where ``put_in_place`` keeps what it replaces, for as long as that takes."""
    return folder.with_name(f".{folder.name}.old")
