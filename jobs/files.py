"""Tables in files: read CSV, Parquet or lines of standard input; write CSV, Parquet or Excel."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ptec_jobs.output import as_cell
from ptec_udf.errors import ConfigError, SourceError

_MOST_IN_EXCEL = 2**20 - 1  # below the line of names


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
    """Write a table in place of an earlier file; a reader never sees half a file. Raise ConfigError if it fails.

    In CSV files and in Excel lists and mappings are written as JSON.
    """
    check_writable(file)
    if file.suffix == ".xlsx" and len(frame) > _MOST_IN_EXCEL:
        rule = f"an Excel sheet has at most {_MOST_IN_EXCEL} rows, the result has {len(frame)}"
        raise ConfigError(f"{rule}; write .csv or .parquet")
    draft = file.with_name(f".{file.stem}.part{file.suffix}")
    try:
        if file.suffix == ".parquet":
            frame.to_parquet(draft, index=False)
        elif file.suffix == ".csv":
            frame.map(as_cell).to_csv(draft, index=False)
        else:
            as_text = {"options": {"strings_to_formulas": False, "strings_to_urls": False}}
            with pd.ExcelWriter(draft, engine="xlsxwriter", engine_kwargs=as_text) as writer:
                frame.map(as_cell).to_excel(writer, index=False, freeze_panes=(1, 0))
        os.replace(draft, file)
    except OSError as error:
        raise ConfigError(f"--out {str(file)!r} cannot be written: {error.strerror}") from None


def check_writable(file: Path) -> None:
    """Raise ConfigError for a name that cannot become a table's file, before any work."""
    if file.suffix not in (".csv", ".parquet", ".xlsx"):
        raise ConfigError(f"--out must end in .csv, .parquet or .xlsx, was: {str(file)!r}")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--out must be in a folder that exists, was: {str(file)!r}")
