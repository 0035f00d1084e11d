"""Tables in files: read CSV, Parquet or lines of standard input; write CSV or Parquet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ptec_udf.errors import ConfigError, SourceError


def read_table(file: Path) -> pd.DataFrame:
    """Read a CSV file, whose values stay text, or a Parquet file; raise SourceError where it cannot be read."""
    try:
        if file.suffix == ".parquet":
            return pq.read_table(file).to_pandas(integer_object_nulls=True)  # 2004, not 2004.0
        if file.suffix == ".csv":
            return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError, pa.ArrowException) as error:  # a message may quote a value
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise SourceError(f"{str(file)!r} cannot be read: {reason}; it must be UTF-8 with a line of names") from None
    raise ConfigError(f"a file must end in .csv or .parquet, was: {str(file)!r}")


def read_lines() -> list[str]:
    """Read the texts of standard input, one a line."""
    if sys.stdin.isatty():
        raise ConfigError("no file was named: name one, or pipe texts to standard input, one a line")
    return [line.rstrip("\r\n") for line in sys.stdin]


def write_table(frame: pd.DataFrame, file: Path) -> None:
    """Write a table in place of an earlier file; a reader never sees half a file. Raise ConfigError if it fails."""
    check_writable(file)
    draft = file.with_name(f".{file.name}.part")
    try:
        if file.suffix == ".parquet":
            frame.to_parquet(draft, index=False)
        else:
            frame.to_csv(draft, index=False)
        os.replace(draft, file)
    except OSError as error:
        raise ConfigError(f"--out {str(file)!r} cannot be written: {error.strerror}") from None


def check_writable(file: Path) -> None:
    """Raise ConfigError for a name that cannot become a table's file, before any work."""
    if file.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--out must end in .csv or .parquet, was: {str(file)!r}")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--out must be in a folder that exists, was: {str(file)!r}")
