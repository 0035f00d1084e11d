"""Which code a measurement was made of."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_of(folder: Path) -> str:
    """Hash what a folder of code does, by the same version of Python: comments and docstrings may change."""
    digest = hashlib.sha256()
    for file in sorted(file for kind in ("*.py", "*.sql") for file in folder.rglob(kind)):
        text = file.read_text(encoding="utf-8")
        digest.update(f"{file.relative_to(folder)}\n{_statements(text) if file.suffix == '.py' else text}\n".encode())
    return digest.hexdigest()[:12]


def _statements(source: str) -> str:
    """Return Python code without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
