"""Names and texts as SQL; without Spark, so that readers without it can use them."""

from __future__ import annotations


def quote(*parts: str) -> str:
    """Write the parts of a name as a quoted SQL identifier."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def literal(text: object) -> str:
    """Write a text or path as an SQL literal."""
    escaped = str(text).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
