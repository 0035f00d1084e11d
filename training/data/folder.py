"""The folder of an extract: ``data`` (Parquet) and ``extract.json``, its record.

A local folder appears as a whole, by a rename. Object stores cannot rename a folder: the record is written last there,
and readers refuse an extract without a record.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.model.folders import check_replaceable, check_unused, replace_atomically

FORMAT_VERSION = 1
DATA = "data"
RECORD = "extract.json"
SPLITS = ("train", "dev", "test")
_RUN_AGAIN = "run ptec extract again"


def read_extract_record(folder: str | Path) -> dict[str, Any]:
    """Read the record of an extract (a path or URI); raise a SourceError if it is missing or has another format."""
    files, path = locate(folder)
    if files.get_file_info(f"{path}/{RECORD}").type != pafs.FileType.File:
        raise SourceError(f"an extract must contain {RECORD}, found none in {str(folder)!r}; run ptec extract")
    with files.open_input_stream(f"{path}/{RECORD}") as stream:
        data = stream.read()
    try:
        record = json.loads(data)
    except ValueError:
        record = {}
    if record.get("format_version") != FORMAT_VERSION:
        rule = f"must be JSON of format_version {FORMAT_VERSION}, is not"
        raise SourceError(f"{RECORD} in {str(folder)!r} {rule}; {_RUN_AGAIN}")
    return record


def read_extract_rows(folder: str | Path, record: dict[str, Any], splits: Sequence[str] = SPLITS) -> pd.DataFrame:
    """Read rows of some splits in a fixed order; raise a SourceError where they do not match the record."""
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
    errors = []
    for split in splits:
        n_rows, n_found = record["counts"]["written"][split], int((rows["split"] == split).sum())
        if n_rows != n_found:
            errors.append(f"{RECORD} has {n_rows} rows of {split}, found {n_found}, in {str(folder)!r}; {_RUN_AGAIN}")
    found = rows[["split", "labels"]].explode("labels").dropna().value_counts().to_dict()
    counts = {(split, label["name"]): label[split] for label in record["labels"] for split in splits if label[split]}
    if found != counts:
        errors.append(f"{RECORD} must have the number of rows of each label, differs in {str(folder)!r}; {_RUN_AGAIN}")
    if errors:
        raise SourceError(errors)
    return rows


def check_out(out: str | Path, overwrite: bool) -> None:
    """Raise a ConfigError if ``out`` cannot be written, or is in use, unless ``overwrite`` and it is an extract."""
    files, path = locate(out)
    if isinstance(files, pafs.LocalFileSystem):
        check_replaceable(Path(path))
    present = {info.base_name for info in files.get_file_info(pafs.FileSelector(path, allow_not_found=True))}
    required = set() if "://" in str(out) else {RECORD}  # a killed run leaves rows without a record at a URI
    check_unused(out, present, overwrite, is_replaceable=required <= present <= {RECORD, DATA})


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
