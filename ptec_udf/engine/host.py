"""One copy of a backbone's weights on a host: a folder in the dtype that is computed with, which all workers map.

A backbone whose weights are stored in another dtype (or as GGUF) is converted by the first worker that needs it; the
others wait, and then read the same file. Weights that are stored as they are used stay in that file's pages, which
the processes of a host have in common, and a load takes a moment.
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
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ptec_udf.model.backbone import Backbone

log = logging.getLogger(__name__)

PLACE = "PTEC_WEIGHTS"
"""Environment variable: folder that converted weights are kept in; by default a folder of the user's under the
system's temporary one."""

_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def of_host(backbone: Backbone, content_hash: str, dtype: torch.dtype) -> Backbone:
    """Return the backbone with weights that are stored in a dtype, for this host's workers to share.

    Where the folder for them cannot be used (no room, no right), that is logged and the backbone is returned as it is,
    so that each worker holds weights of its own.

    Args:
        backbone: as its name is resolved here.
        content_hash: that of the artifact; the backbone is held against it, unless that was done at its conversion.
        dtype: of the arithmetic.

    Raises:
        BackboneError: for another content, or weights that cannot be read.
    """
    if _stored_in(backbone, dtype):
        _check_once(backbone, content_hash)
        return backbone
    name = "-".join([content_hash[:32], _DTYPES[dtype], *map(importlib.metadata.version, ("torch", "transformers"))])
    try:
        folder = _own_folder() / name
        if folder.is_dir():
            return Backbone(backbone.name, folder)
        with _locked(folder.with_suffix(".lock")):
            if not folder.is_dir():
                backbone.check(content_hash)
                _convert(backbone, folder, dtype)
    except OSError as error:
        log.warning("weights are not shared by the workers of this host: %s", error.strerror or type(error).__name__)
        _check_once(backbone, content_hash)
        return backbone
    return Backbone(backbone.name, folder)


@lru_cache
def _check_once(backbone: Backbone, content_hash: str) -> None:
    """Hash a backbone's files once per process."""
    backbone.check(content_hash)


def _own_folder() -> Path:
    """Make the folder of converted weights, which nobody else may write to: what lies there is not hashed again.

    Raises:
        OSError: when it cannot be made or is another user's.
    """
    place = os.environ.get(PLACE)
    folder = Path(place) if place else Path(tempfile.gettempdir()) / f"ptec-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(0, f"{str(folder)!r} must be a folder that this user alone may write to")
    return folder


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock among the processes of this host; it ends with the process that holds it."""
    with file.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _stored_in(backbone: Backbone, dtype: torch.dtype) -> bool:
    """Tell whether all weights are stored in a dtype already."""
    files = [] if backbone.gguf_file else list(backbone.folder.glob("*.safetensors"))
    try:
        found = {name for file in files for name in _dtypes(file)}
    except SafetensorError:  # damaged, which its hash will show
        return False
    return found == {_DTYPES[dtype]}


def _dtypes(file: Path) -> Iterator[str]:
    """Give the dtype of each tensor in a file, as safetensors spells it."""
    with safe_open(file, framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118
            yield weights.get_slice(name).get_dtype()


def _convert(backbone: Backbone, folder: Path, dtype: torch.dtype) -> None:
    """Write the backbone anew; the folder has its name only when it is whole."""
    model, tokenizer = backbone.load(dtype)
    if backbone.gguf_file:  # what transformers knows of the weights' first form would be looked for in the new one
        model.hf_quantizer = None
        model.config.quantization_config = None
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        beside.rename(folder)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)
        raise
