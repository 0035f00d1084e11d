"""The folder of an extract: ``data`` (Parquet) and ``extract.json``, its record.

A local folder appears as a whole, by a rename. Object stores cannot rename a folder: the record is written last there,
and readers refuse an extract without a record.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs as pafs
from pydantic import BaseModel, Field, ValidationError

from ptec_udf.errors import ConfigError, SourceError
from training.folders import check_replaceable, replace_atomically

FORMAT_VERSION = 1
DATA = "data"
RECORD = "extract.json"
SPLITS = ("train", "dev", "test")

_RUN_AGAIN = "run ptec extract again"


class _BySplit(BaseModel):
    train: int
    dev: int
    test: int


class _Label(_BySplit):
    name: str


class _Counts(BaseModel):
    written: _BySplit


class _Record(BaseModel):
    """What readers of a record rely on."""

    format_version: Literal[1]
    name: str
    source_id: str
    version: int | None
    template: str
    labels: Annotated[list[_Label], Field(min_length=1)]
    counts: _Counts
    fingerprint: str


def read_extract_record(folder: str | Path) -> dict[str, Any]:
    """Read the record of an extract (a path or URI); raise a SourceError if it is missing or incomplete."""
    files, path = locate(folder)
    if files.get_file_info(f"{path}/{RECORD}").type != pafs.FileType.File:
        raise SourceError(f"an extract must contain {RECORD}, found none in {str(folder)!r}; run ptec extract")
    with files.open_input_stream(f"{path}/{RECORD}") as stream:
        data = stream.read()
    try:
        _Record.model_validate_json(data)
    except ValidationError as error:
        errors = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
        where = f"{RECORD} in {str(folder)!r}"
        raise SourceError([f"{where}: {key or 'record'}: {rule}; {_RUN_AGAIN}" for key, rule in errors]) from None
    return json.loads(data)


def read_extract_rows(folder: str | Path, record: dict[str, Any], splits: Sequence[str] = SPLITS) -> pd.DataFrame:
    """Read key, text, text_hash, labels and split of the rows of some splits, in a fixed order.

    Raises:
        SourceError: for rows that cannot be read or do not match the record, with all errors.
    """
    files, path = locate(folder)
    try:
        table = pq.read_table(
            f"{path}/{DATA}",
            columns=["key", "text", "text_hash", "labels", "split"],
            filesystem=files,
            filters=pc.field("split").isin(list(splits)),
        )
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"rows of {str(folder)!r} must be Parquet with the columns of an extract, reading failed with "
            f"{type(error).__name__}; {_RUN_AGAIN}"
        ) from None
    rows = table.to_pandas().sort_values(["text_hash", "key"], ignore_index=True)
    if errors := list(_errors(rows, record, splits)):
        raise SourceError([f"{error}, in {str(folder)!r}; {_RUN_AGAIN}" for error in errors])
    return rows


def _errors(rows: pd.DataFrame, record: dict[str, Any], splits: Sequence[str]) -> Iterator[str]:
    """Yield errors that do not quote any text."""
    for name in ("key", "text", "text_hash"):
        if n_nulls := rows[name].isna().sum():
            yield f"column {name!r} must have no nulls, has {n_nulls}"
    n_rows = rows["split"].value_counts()
    for split in splits:
        if (expected := record["counts"]["written"][split]) != n_rows.get(split, 0):
            yield f"{RECORD} has {expected} rows of {split}, found {n_rows.get(split, 0)}"
    found = rows[["split", "labels"]].explode("labels").dropna().value_counts().to_dict()
    recorded = {(split, label["name"]): label[split] for label in record["labels"] for split in splits if label[split]}
    if found != recorded:
        yield f"{RECORD} must have the number of rows of each label, {len(found.items() ^ recorded.items())} differ"


def check_out(out: str | Path, overwrite: bool) -> None:
    """Raise a ConfigError if ``out`` cannot be written, or is in use, unless ``overwrite`` and it is an extract."""
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


def write_extract(
    out: str | Path, overwrite: bool, record: dict[str, Any], write_rows: Callable[[str], object]
) -> None:
    """Write an extract; ``write_rows`` gets the URI of its Parquet files. Raise a ConfigError as ``check_out``."""
    data = (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
    if "://" in str(out):
        files, path = locate(out)
        files.create_dir(path, recursive=True)
        files.delete_dir_contents(path)
        write_rows(f"{str(out).rstrip('/')}/{DATA}")
        with files.open_output_stream(f"{path}/{RECORD}") as stream:
            stream.write(data)
        return
    target = Path(out).resolve()
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # a killed run leaves it
    partial.mkdir(parents=True)
    try:
        write_rows(f"file://{partial}/{DATA}")
        (partial / RECORD).write_bytes(data)
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
    except (pa.ArrowInvalid, NotImplementedError, OSError) as error:
        raise ConfigError(f"the location {str(folder)!r} cannot be opened: {error}") from None
    return files, path.rstrip("/")
