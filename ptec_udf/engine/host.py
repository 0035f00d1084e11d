"""One copy of a backbone's weights on a host: a folder in the dtype that is computed with, which all workers map.

A backbone whose weights are stored in another dtype (or as GGUF) is converted by the first worker that needs it; the
others wait, and then read the same file. Weights that are stored as they are used stay in that file's pages, which
the processes of a host have in common. The tokeniser is always read from the backbone itself: transformers may write
another one than it has read.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import logging
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ptec_udf.errors import BackboneError
from ptec_udf.model.backbone import Backbone

log = logging.getLogger(__name__)

PLACE = "PTEC_WEIGHTS"
"""Environment variable: folder that converted weights are kept in; by default a folder of the user's under the
system's temporary one."""

FORMAT = 1
"""Part of a converted folder's name: raise it when the code that writes one changes what is in it."""

_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}
_SEAL = "content_hash"


def of_host(backbone: Backbone, content_hash: str, dtype: torch.dtype) -> Backbone:
    """Return the backbone with weights that are stored in a dtype, for this host's workers to share.

    Where the folder for them cannot be used (no room, no right), that is logged and the backbone is returned as it is,
    so that each worker holds weights of its own.

    Args:
        backbone: as its name is resolved here.
        content_hash: that of the artifact, which the backbone is held against.
        dtype: of the arithmetic.

    Raises:
        BackboneError: for another content, or weights that cannot be read.
    """
    _check_once(backbone, content_hash)
    if _stored_in(backbone, dtype):
        return backbone
    versions = map(importlib.metadata.version, ("torch", "transformers"))
    name = "-".join([content_hash[:32], _DTYPES[dtype], str(FORMAT), *versions])
    try:
        folder = _own_folder() / name
        if not _is_whole(folder):
            with _locked(folder.with_name(f"{name}.lock")):
                if not _is_whole(folder):  # by now
                    _convert(backbone, folder, dtype)
    except OSError as error:
        log.warning("weights are not shared by the workers of this host: %s", error.strerror or type(error).__name__)
        return backbone
    return replace(backbone, weights=folder)


@lru_cache
def _check_once(backbone: Backbone, content_hash: str) -> None:
    """Hash a backbone's files once per process."""
    backbone.check(content_hash)


def _own_folder() -> Path:
    """Make the folder of converted weights, which nobody else may read or write.

    Raises:
        OSError: when it cannot be made or is another user's.
    """
    place = os.environ.get(PLACE)
    folder = Path(place) if place else Path(tempfile.gettempdir()) / f"ptec-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(0, f"{str(folder)!r} must be a folder of this user that no other has a right to")
    return folder


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock among the processes of this host; it ends with the process that holds it."""
    with file.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _stored_in(backbone: Backbone, dtype: torch.dtype) -> bool:
    """Tell whether all weights are stored in a dtype already; positions and the like are whole numbers."""
    files = [] if backbone.gguf_file else backbone.folder.glob("*.safetensors")
    try:
        found = {name for file in files for name in _dtypes(file)}
    except (OSError, SafetensorError):
        return False  # loading will say what is wrong
    return {name for name in found if name.startswith(("F", "BF"))} == {_DTYPES[dtype]}


def _dtypes(file: Path) -> Iterator[str]:
    """Give the dtype of each tensor in a file, as safetensors spells it."""
    with safe_open(file, framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118
            yield weights.get_slice(name).get_dtype()


def _is_whole(folder: Path) -> bool:
    """Tell whether a converted folder is as it was written."""
    try:
        return (folder / _SEAL).read_text(encoding="ascii") == Backbone(folder.name, folder).content_hash()
    except (OSError, UnicodeDecodeError, BackboneError):
        return False


def _convert(backbone: Backbone, folder: Path, dtype: torch.dtype) -> None:
    """Write the weights anew; whoever calls this holds the lock, so what others began is left over and goes.

    Raises:
        OSError: when they cannot be written.
        BackboneError: when they cannot be read.
    """
    for left_over in [folder, *folder.parent.glob(f".{folder.name}.*")]:
        shutil.rmtree(left_over, ignore_errors=True)
    model, _ = backbone.load(dtype)
    if any(weight.dtype != dtype for weight in model.parameters()):
        raise OSError(0, f"backbone {backbone.name!r} keeps weights in a form of its own")
    if backbone.gguf_file:  # what transformers knows of the weights' first form would be looked for in the new one
        model.hf_quantizer = model.config.quantization_config = None
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        model.save_pretrained(beside)
        (beside / _SEAL).write_text(Backbone(folder.name, beside).content_hash(), encoding="ascii")
        for file in filter(Path.is_file, beside.iterdir()):
            file.chmod(0o400)  # workers have it mapped: who writes into it changes their scores, or ends them
        beside.rename(folder)
    except Exception as error:  # safetensors has its own error for a full disk
        raise OSError(0, f"they cannot be written ({type(error).__name__})") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
