"""The folder of an extract: ``data`` (Parquet) and ``extract.json``, the record of what it is.

A local folder appears at once and whole, by a rename. Object stores cannot rename a folder, so there
the record is written last; whoever reads an extract reads its record first and refuses to go on without.
"""

from __future__ import annotations

import glob
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowInvalid
from pyarrow import fs as pafs

from ptec_udf.errors import ConfigError, SourceError
from training.folders import check_replaceable, put_in_place

FORMAT_VERSION = 1
DATA = "data"
RECORD = "extract.json"
_LIVING_S = 24 * 3600
_REQUIRED = ("format_version", "name", "source_id", "version", "template", "labels", "counts", "fingerprint", "created")


@dataclass(frozen=True)
class Place:
    """Where an extract is written: ``data_uri`` for Spark, ``folder`` for the record."""

    files: pafs.FileSystem
    folder: str
    data_uri: str

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``extract.json``; the last thing that is written."""
        with self.files.open_output_stream(f"{self.folder}/{RECORD}") as stream:
            stream.write((json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def read_extract_record(folder: str | Path) -> dict[str, Any]:
    """Read the record of the extract in ``folder`` (a path or URI).

    Raises:
        SourceError: if there is no extract, it is incomplete or of another format version.
    """
    files, path = located(folder)
    if files.get_file_info(f"{path}/{RECORD}").type != pafs.FileType.File:
        raise SourceError(f"an extract must hold {RECORD}, found none in {str(folder)!r}; run ptec extract")
    try:
        with files.open_input_stream(f"{path}/{RECORD}") as stream:
            record = json.loads(stream.read())
    except ValueError:
        raise SourceError(f"{RECORD} in {str(folder)!r} is not JSON; run ptec extract again") from None
    version = record.get("format_version") if isinstance(record, dict) else None
    if version != FORMAT_VERSION:
        raise SourceError(
            f"extract format must be {FORMAT_VERSION}, was {version!r} in {str(folder)!r}; "
            "run ptec extract with this version of the package"
        )
    missing = [
        f"{RECORD} in {str(folder)!r} lacks {key!r}; run ptec extract again" for key in _REQUIRED if key not in record
    ]
    if files.get_file_info(f"{path}/{DATA}").type != pafs.FileType.Directory:
        missing.append(f"the extract in {str(folder)!r} has no folder {DATA!r}; run ptec extract again")
    if not missing and not _is_whole(record):
        missing = [f"{RECORD} in {str(folder)!r} does not say what an extract's does; run ptec extract again"]
    if missing:
        raise SourceError(missing)
    return record


def _is_whole(record: dict[str, Any]) -> bool:
    """Tell whether labels and counts are what reading relies on."""
    try:
        splits = record["counts"]["written"]
        said = [label[split] for label in record["labels"] for split in splits] + list(splits.values())
        names = [label["name"] for label in record["labels"]]
    except (KeyError, TypeError, AttributeError):
        return False
    return bool(names) and all(isinstance(name, str) for name in names) and all(type(one) is int for one in said)


def check_out(out: str | Path, overwrite: bool) -> None:
    """Refuse a folder that is in use before any work is done.

    Raises:
        ConfigError: if ``out`` cannot be written, or is neither absent nor empty, unless ``overwrite`` and it holds an
            extract.
    """
    files, path = located(out)
    if isinstance(files, pafs.LocalFileSystem):
        check_replaceable(Path(path))
    kind = files.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        return
    if kind != pafs.FileType.Directory:
        raise ConfigError(f"out must be a folder, was a file: {str(out)!r}")
    present = {info.base_name for info in files.get_file_info(pafs.FileSelector(path))}
    # A killed run leaves the rows alone at a URI; a folder of this machine is put in place whole.
    needed = set() if "://" in str(out) else {RECORD}
    if not present or (overwrite and needed <= present <= {RECORD, DATA}):
        return
    if overwrite:
        raise ConfigError(
            f"overwrite replaces only an earlier extract, and {str(out)!r} holds other files; choose another out"
        )
    raise ConfigError(f"out must be absent or empty, was in use: {str(out)!r}; choose another or set overwrite to true")


@contextmanager
def publishing(out: str | Path, overwrite: bool = False) -> Iterator[Place]:
    """Give a place to write to; on leaving without an error its content is the extract ``out``.

    Raises:
        ConfigError: as ``check_out``, if somebody has put something there meanwhile.
    """
    if "://" in str(out):
        files, path = located(out)
        if files.get_file_info(path).type == pafs.FileType.Directory:
            files.delete_dir_contents(path)
        files.create_dir(path, recursive=True)
        yield Place(files, path, f"{str(out).rstrip('/')}/{DATA}")
        return
    target = Path(out).resolve()
    partial = target.with_name(f".{target.name}.partial-{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    _clear_killed(target)
    try:
        yield Place(pafs.LocalFileSystem(), str(partial), f"file://{partial}/{DATA}")
        check_out(out, overwrite)
        put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _clear_killed(target: Path) -> None:
    """Remove what killed runs left, since it holds companies' texts; a day old, so that no living run is hit."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.partial-*"):
        if time.time() - left.stat().st_mtime > _LIVING_S:
            shutil.rmtree(left, ignore_errors=True)


def located(folder: str | Path) -> tuple[pafs.FileSystem, str]:
    """Return the file system and the path of a local path or URI."""
    if "://" not in str(folder):
        return pafs.LocalFileSystem(), str(Path(folder).resolve())
    # Hadoop's name for the S3 file system is s3a, pyarrow's is s3.
    uri = str(folder).replace("s3a://", "s3://", 1)
    try:
        files, path = pafs.FileSystem.from_uri(uri)
    except (ArrowInvalid, NotImplementedError, OSError) as error:
        raise ConfigError(f"the location {str(folder)!r} cannot be opened: {error}") from None
    return files, path.rstrip("/")
