"""The folder of an extract: ``data`` (Parquet) and ``extract.json``, its record.

A local folder appears as a whole, by a rename. Object stores cannot rename a folder: the record is written last there,
and readers refuse an extract without a record.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowInvalid
from pyarrow import fs as pafs

from ptec_udf.errors import ConfigError, SourceError
from training.folders import check_replaceable, replace_atomically

FORMAT_VERSION = 1
DATA = "data"
RECORD = "extract.json"
_REQUIRED = ("name", "source_id", "version", "template", "labels", "counts", "fingerprint", "created")


@dataclass(frozen=True)
class ExtractWriter:
    """Where an extract is written: ``data_uri`` for Spark, ``folder`` for the record."""

    files: pafs.FileSystem
    folder: str
    data_uri: str

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``extract.json``; the last file that is written."""
        with self.files.open_output_stream(f"{self.folder}/{RECORD}") as stream:
            stream.write((json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def read_extract_record(folder: str | Path) -> dict[str, Any]:
    """Read the record of the extract in ``folder`` (a path or URI).

    Raises:
        SourceError: if there is no extract, or it is incomplete or of another format version.
    """
    files, path = locate(folder)
    where = f"{RECORD} in {str(folder)!r}"
    if files.get_file_info(f"{path}/{RECORD}").type != pafs.FileType.File:
        raise SourceError(f"an extract must contain {RECORD}, found none in {str(folder)!r}; run ptec extract")
    try:
        with files.open_input_stream(f"{path}/{RECORD}") as stream:
            record = json.loads(stream.read())
        version = record.get("format_version")
    except (ValueError, AttributeError):
        raise SourceError(f"{where} must be a JSON object; run ptec extract again") from None
    if version != FORMAT_VERSION:
        raise SourceError(f"{where} must have format_version {FORMAT_VERSION}, was {version!r}; run ptec extract again")
    if missing := [f"{where} lacks {key!r}; run ptec extract again" for key in _REQUIRED if key not in record]:
        raise SourceError(missing)
    if not _is_complete(record):
        raise SourceError(f"{where} must have labels and counts of rows; run ptec extract again")
    return record


def _is_complete(record: dict[str, Any]) -> bool:
    """Tell whether labels and counts have the form that reading needs."""
    try:
        splits = record["counts"]["written"]
        counts = [label[split] for label in record["labels"] for split in splits] + list(splits.values())
        names = [label["name"] for label in record["labels"]]
    except (KeyError, TypeError, AttributeError):
        return False
    is_named = bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    return is_named and all(type(count) is int for count in counts)


def check_out(out: str | Path, overwrite: bool) -> None:
    """Refuse a folder that is in use, before any work.

    Raises:
        ConfigError: if ``out`` cannot be written, or is not empty, unless ``overwrite`` and it contains an extract.
    """
    files, path = locate(out)
    if isinstance(files, pafs.LocalFileSystem):
        check_replaceable(Path(path))
    kind = files.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        return
    if kind != pafs.FileType.Directory:
        raise ConfigError(f"out must be a folder, was a file: {str(out)!r}")
    present = {info.base_name for info in files.get_file_info(pafs.FileSelector(path))}
    required = set() if "://" in str(out) else {RECORD}  # a killed run leaves rows without a record at a URI
    if not present or (overwrite and required <= present <= {RECORD, DATA}):
        return
    remedy = "it contains other files than an extract's, choose another" if overwrite else "set overwrite to true"
    raise ConfigError(f"out must be absent or empty, was in use: {str(out)!r}; {remedy}")


@contextmanager
def write_extract(out: str | Path, overwrite: bool = False) -> Iterator[ExtractWriter]:
    """Yield where to write; when the block ends without an error, the content is the extract ``out``.

    Raises:
        ConfigError: as ``check_out``.
    """
    if "://" in str(out):
        files, path = locate(out)
        if files.get_file_info(path).type == pafs.FileType.Directory:
            files.delete_dir_contents(path)
        files.create_dir(path, recursive=True)
        yield ExtractWriter(files, path, f"{str(out).rstrip('/')}/{DATA}")
        return
    target = Path(out).resolve()
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # a killed run leaves it
    partial.mkdir(parents=True)
    try:
        yield ExtractWriter(pafs.LocalFileSystem(), str(partial), f"file://{partial}/{DATA}")
        check_out(out, overwrite)
        replace_atomically(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def locate(folder: str | Path) -> tuple[pafs.FileSystem, str]:
    """Return the file system and the path of a local path or URI."""
    if "://" not in str(folder):
        return pafs.LocalFileSystem(), str(Path(folder).resolve())
    uri = str(folder).replace("s3a://", "s3://", 1)  # Hadoop's scheme is s3a, pyarrow's is s3
    try:
        files, path = pafs.FileSystem.from_uri(uri)
    except (ArrowInvalid, NotImplementedError, OSError) as error:
        raise ConfigError(f"the location {str(folder)!r} cannot be opened: {error}") from None
    return files, path.rstrip("/")
