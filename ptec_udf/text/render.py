"""The text of a company in plain Python: the texts of ``columns.py`` for values that are already in memory.

A test compares both on the same rows.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ptec_udf.errors import SourceError, did_you_mean
from ptec_udf.text.template import CUT_MARK, MAX_CHARACTERS, Template, is_blank

if TYPE_CHECKING:
    import pandas as pd

_SEPARATORS = "".join(c for c in map(chr, range(0x3001)) if unicodedata.category(c) in ("Cc", "Zs", "Zl", "Zp"))
_GAP = re.compile(f"[{re.escape(_SEPARATORS)}{CUT_MARK}]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str | None:
    """Replace runs of white space and control characters by one space, and trim; None if blank.

    Only the first ``MAX_CHARACTERS`` characters are read; ``CUT_MARK`` then ends the result.
    """
    read = _SURROGATE.sub("\ufffd", text[:MAX_CHARACTERS])
    if is_blank(read):
        return None
    return _GAP.sub(" ", read).strip(" ") + ("" if len(text) <= MAX_CHARACTERS else f" {CUT_MARK}")


def render(template: Template, row: Mapping[str, Any]) -> str | None:
    """Return the text of a row, by field name; None if all its fields are blank.

    Raise SourceError for a value whose text would depend on the program that writes it.
    """
    segments = []
    for segment in template.segments:
        text = _join((part.separator, _value(part.name, row[part.name])) for part in segment.parts)
        segments.append((segment.separator, text and segment.heading + text))
    text = _join(segments)
    return text and text + template.tail


def texts_of(values: Any, template: Template) -> list[str | None]:
    """Return the texts of rows or of values.

    A table (pandas, Polars, Hugging Face) has the columns that the template names. Values (a list, array or column) are
    the field of a template such as ``{text}``, or else whole texts. Raise SourceError for other values.
    """
    if hasattr(values, "columns") or hasattr(values, "column_names"):
        frame = as_frame(values)
        if missing := [name for name in template.fields if name not in frame.columns]:
            known = [str(name) for name in frame.columns]
            remedy = f"the columns are {', '.join(map(repr, known))}"
            raise SourceError([f"the table has no column {n!r}; {did_you_mean(n, known, remedy)}" for n in missing])
        rows = zip(*(frame[name] for name in template.fields), strict=True)
        return [render(template, dict(zip(template.fields, row, strict=True))) for row in rows]
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise SourceError(f"texts must be a list, a column or a table, was: {type(values).__name__}; pass [text]")
    found = list(values)
    if is_single_field(template):
        [name] = template.fields
        return [render(template, {name: value}) for value in found]
    return [_value("texts", value) if value is None or not isinstance(value, str) else value for value in found]


def is_single_field(template: Template) -> bool:
    """Return whether a template is one field alone, as ``{text}``."""
    [first, *more] = template.segments
    return not (more or first.heading or template.tail or len(first.parts) > 1)


def as_frame(table: Any) -> pd.DataFrame:
    """Return a table as a pandas DataFrame, the table itself if it is one."""
    if hasattr(table, "to_pandas"):
        return table.to_pandas()
    if hasattr(table, "iloc"):
        return table
    raise SourceError(f"a table must be of pandas, Polars or Hugging Face, was: {type(table).__name__}")


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def as_plain(value: Any) -> Any:
    """Return an array, column or scalar of NumPy, pandas or Polars as Python's own list or value."""
    convert = getattr(value, "tolist", None) or getattr(value, "to_list", None)
    return convert() if convert else value


def is_null(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, NaT or pandas' NA."""
    return value is None or value is getattr(sys.modules.get("pandas"), "NA", None) or value != value


def _value(name: str, value: Any) -> str | None:
    """Return a field's value as a clean text; None if blank."""
    if isinstance(value, str):
        return clean(value)
    value = as_plain(value)
    if isinstance(value, list | tuple):
        return ", ".join(text for item in value if (text := _value(name, item))) or None
    if is_null(value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | str) or type(value) is datetime.date:
        return clean(str(value))
    raise SourceError(
        f"column {name!r} must have text, whole numbers, booleans or dates, has {type(value).__name__}; "
        "convert it to text"
    )


def _join(parts: Iterable[tuple[str, str | None]]) -> str | None:
    """Join the texts that are present, each after its separator except the first; None if none is."""
    present: Sequence[tuple[str, str]] = [(separator, text) for separator, text in parts if text]
    return "".join(text if at == 0 else separator + text for at, (separator, text) in enumerate(present)) or None
